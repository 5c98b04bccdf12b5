package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// settings is what the stand-in heeds of a KubeProxyConfiguration.
type settings struct {
	mode              string
	hostname          string
	kubeconfig        string
	clusterCIDRs      []string
	healthzAddress    string
	metricsAddress    string
	nodePortAddresses []string
	masqueradeAll     bool
	syncPeriod        time.Duration
}

// readSettings reads a file such as kube-proxy takes with --config.
func readSettings(file, hostname string) (settings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return settings{}, err
	}
	fields := parseFields(string(text))
	one := func(name, otherwise string) string {
		if values := fields[name]; len(values) > 0 && values[0] != "" {
			return values[0]
		}
		return otherwise
	}
	if hostname == "" {
		own, _ := os.Hostname()
		hostname = strings.ToLower(one("hostnameOverride", own))
	}
	period, err := time.ParseDuration(one("nftables.syncPeriod", "30s"))
	return settings{
		mode:              one("mode", ""),
		hostname:          hostname,
		kubeconfig:        one("clientConnection.kubeconfig", ""),
		clusterCIDRs:      strings.FieldsFunc(one("clusterCIDR", ""), isComma),
		healthzAddress:    one("healthzBindAddress", "0.0.0.0:10256"),
		metricsAddress:    one("metricsBindAddress", "127.0.0.1:10249"),
		nodePortAddresses: fields["nodePortAddresses"],
		masqueradeAll:     one("nftables.masqueradeAll", "false") == "true",
		syncPeriod:        period,
	}, err
}

// parseFields reads the plain lines that such a file is made of: `key: value`, one level of
// `section:`, and lists in brackets or with dashes. The names are `key` and `section.key`.
func parseFields(text string) map[string][]string {
	fields := map[string][]string{}
	section, last := "", ""
	for _, line := range strings.Split(text, "\n") {
		word := strings.TrimSpace(line)
		if word == "" || strings.HasPrefix(word, "#") {
			continue
		}
		if strings.HasPrefix(word, "- ") {
			fields[last] = append(fields[last], plain(word[2:]))
			continue
		}
		key, value, _ := strings.Cut(word, ":")
		value = strings.TrimSpace(value)
		last = key
		if !strings.HasPrefix(line, " ") {
			section = key
		} else {
			last = section + "." + key
		}
		if value != "" {
			fields[last] = list(value)
		}
	}
	return fields
}

// list returns the values of `[a, b]`, or the one of anything else.
func list(value string) []string {
	if !strings.HasPrefix(value, "[") {
		return []string{plain(value)}
	}
	var values []string
	for _, item := range strings.FieldsFunc(strings.Trim(value, "[]"), isComma) {
		values = append(values, plain(item))
	}
	return values
}

func isComma(letter rune) bool  { return letter == ',' }
func plain(value string) string { return strings.Trim(strings.TrimSpace(value), `"'`) }

// api is where the cluster's objects are.
type api struct {
	server string
	token  string
	// Where the token is instead, if it is one that is renewed.
	tokenFile string
	client    *http.Client
}

// readKubeconfig takes the first server and the first identity of a kubeconfig, YAML or JSON.
func readKubeconfig(file string) (api, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return api{}, err
	}
	field := func(name string) string { return find(string(text), name) }
	server := strings.TrimSuffix(field("server"), "/")
	if server == "" {
		return api{}, fmt.Errorf("%s names no server", file)
	}
	options := &tls.Config{InsecureSkipVerify: field("insecure-skip-tls-verify") == "true"}
	folder := filepath.Dir(file)
	authority := content(field("certificate-authority-data"), folder, field("certificate-authority"))
	if authority != nil {
		options.RootCAs = x509.NewCertPool()
		options.RootCAs.AppendCertsFromPEM(authority)
	}
	certificate := content(field("client-certificate-data"), folder, field("client-certificate"))
	key := content(field("client-key-data"), folder, field("client-key"))
	if certificate != nil && key != nil {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return api{}, err
		}
		options.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: options}
	client := &http.Client{Timeout: 10 * time.Second, Transport: transport}
	found := api{server: server, token: field("token"), tokenFile: field("tokenFile"), client: client}
	return found, nil
}

func find(text, name string) string {
	pattern := `(?m)(?:^|[\s{,"'])` + name + `["']?\s*:\s*["']?([^"'\s,}]+)`
	if found := regexp.MustCompile(pattern).FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}

// content returns what is written into the file itself, or in the one that it names, or nothing.
func content(data, folder, path string) []byte {
	if data != "" {
		decoded, _ := base64.StdEncoding.DecodeString(data)
		return decoded
	}
	if path != "" && !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	text, _ := os.ReadFile(path)
	return text
}

// nodePortIPs returns the node's own addresses of one family that answer on NodePorts.
func nodePortIPs(settings settings, primary []string, v6 bool) []string {
	if len(settings.nodePortAddresses) == 0 {
		settings.nodePortAddresses = []string{"primary"}
	}
	var chosen []string
	for _, wanted := range settings.nodePortAddresses {
		if wanted == "primary" {
			chosen = append(chosen, primary...)
		} else if _, network, err := net.ParseCIDR(wanted); err == nil {
			chosen = append(chosen, ownAddresses(network)...)
		}
	}
	var fitting []string
	for _, address := range chosen {
		if isV6(address) == v6 {
			fitting = append(fitting, address)
		}
	}
	return unique(fitting)
}

func ownAddresses(network *net.IPNet) []string {
	var found []string
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		own, ok := address.(*net.IPNet)
		if ok && network.Contains(own.IP) && !own.IP.IsLoopback() && !own.IP.IsLinkLocalUnicast() {
			found = append(found, own.IP.String())
		}
	}
	return found
}

func isV6(address string) bool { return strings.Contains(address, ":") }

func unique(values []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, value := range values {
		if !seen[value] {
			kept = append(kept, value)
		}
		seen[value] = true
	}
	return kept
}
