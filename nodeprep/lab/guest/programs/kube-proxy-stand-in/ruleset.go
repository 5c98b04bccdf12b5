package main

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net"
	"sort"
	"strings"
)

// The names of tables, maps and chains, and the rules in them, are those of kube-proxy 1.31 to
// 1.35: whoever looks at a node finds what he would find there.

const (
	masqueradeMark  = "0x4000"
	defaultAffinity = 10800
	nameLimit       = 240
)

// ruleset is the text of one family's table as nft reads it, and the names of what is in it.
type ruleset struct {
	family   string
	address  string
	settings settings
	nodeIPs  []string

	lines    []string
	elements []string
	chains   []string
	sets     []string
}

type baseChain struct{ name, hook string }

// The filter chains before the translation see the service's address, and those after it see the
// endpoint's, or the service's where there was no endpoint to translate it to.
var baseChains = []baseChain{
	{"filter-prerouting-pre-dnat", "type filter hook prerouting priority -110 ;"},
	{"filter-output-pre-dnat", "type filter hook output priority -110 ;"},
	{"filter-input", "type filter hook input priority 0 ;"},
	{"filter-forward", "type filter hook forward priority 0 ;"},
	{"filter-output", "type filter hook output priority 0 ;"},
	{"nat-prerouting", "type nat hook prerouting priority -100 ;"},
	{"nat-output", "type nat hook output priority -100 ;"},
	{"nat-postrouting", "type nat hook postrouting priority 100 ;"},
}

// Rules of the chains that are there whatever the services are; ADDR is `ip` or `ip6`.
var fixedRules = []string{
	"filter-prerouting-pre-dnat ct state new jump firewall-check",
	"filter-output-pre-dnat ct state new jump firewall-check",
	"filter-input ct state new jump nodeport-endpoints-check",
	"filter-input ct state new jump service-endpoints-check",
	"filter-forward ct state new jump service-endpoints-check",
	"filter-forward ct state new jump cluster-ips-check",
	"filter-output ct state new jump service-endpoints-check",
	"filter-output ct state new jump cluster-ips-check",
	"nat-prerouting jump services",
	"nat-output jump services",
	"nat-postrouting jump masquerading",
	"cluster-ips-check ADDR daddr @cluster-ips reject " +
		`comment "Reject traffic to invalid ports of ClusterIPs"`,
	"firewall-check ADDR daddr . meta l4proto . th dport vmap @firewall-ips",
	"mark-for-masquerade mark set mark or " + masqueradeMark,
	"masquerading mark and " + masqueradeMark + " == 0 return",
	"masquerading mark set mark xor " + masqueradeMark,
	"masquerading masquerade fully-random",
	"nodeport-endpoints-check ADDR daddr @nodeport-ips meta l4proto . th dport " +
		"vmap @no-endpoint-nodeports",
	"reject-chain reject",
	"service-endpoints-check ADDR daddr . meta l4proto . th dport vmap @no-endpoint-services",
	"services ADDR daddr . meta l4proto . th dport vmap @service-ips",
	"services ADDR daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
}

var fixedChains = []string{
	"cluster-ips-check", "firewall-check", "mark-for-masquerade", "masquerading",
	"nodeport-endpoints-check", "reject-chain", "service-endpoints-check", "services",
}

// The maps and sets that each sync fills anew: name, what it is, type.
var fixedMaps = [][3]string{
	{"cluster-ips", "set", "ADDRESS"},
	{"nodeport-ips", "set", "ADDRESS"},
	{"firewall-ips", "map", "ADDRESS . inet_proto . inet_service : verdict"},
	{"no-endpoint-nodeports", "map", "inet_proto . inet_service : verdict"},
	{"no-endpoint-services", "map", "ADDRESS . inet_proto . inet_service : verdict"},
	{"service-ips", "map", "ADDRESS . inet_proto . inet_service : verdict"},
	{"service-nodeports", "map", "inet_proto . inet_service : verdict"},
}

// render returns the rules of one family for these objects.
func render(settings settings, primary []string, objects objects, v6 bool) *ruleset {
	rules := &ruleset{family: "ip", address: "ipv4_addr", settings: settings}
	if v6 {
		rules.family, rules.address = "ip6", "ipv6_addr"
	}
	rules.nodeIPs = nodePortIPs(settings, primary, v6)
	rules.frame()
	for _, address := range rules.nodeIPs {
		rules.element("nodeport-ips", address, "")
	}
	for _, service := range sorted(objects.services) {
		if service.proxied() && service.clusterIP(v6) != "" {
			rules.service(service, objects)
		}
	}
	return rules
}

func sorted(services []service) []service {
	sort.Slice(services, func(a, b int) bool {
		return services[a].Metadata.full() < services[b].Metadata.full()
	})
	return services
}

func (m metadata) full() string { return m.Namespace + "/" + m.Name }

// frame writes what is there whatever the services are.
func (r *ruleset) frame() {
	r.add(`table %s kube-proxy { comment "rules for kube-proxy" ; }`, r.family)
	for _, chain := range baseChains {
		r.add("chain %s kube-proxy %s { %s }", r.family, chain.name, chain.hook)
		r.lines = append(r.lines, fmt.Sprintf("flush chain %s kube-proxy %s", r.family, chain.name))
	}
	for _, chain := range fixedChains {
		r.chain(chain)
	}
	for _, item := range fixedMaps {
		kind := strings.ReplaceAll(item[2], "ADDRESS", r.address)
		r.add("%s %s kube-proxy %s { type %s ; }", item[1], r.family, item[0], kind)
		flush := fmt.Sprintf("flush %s %s kube-proxy %s", item[1], r.family, item[0])
		r.lines = append(r.lines, flush)
	}
	for _, rule := range fixedRules {
		name, text, _ := strings.Cut(strings.ReplaceAll(rule, "ADDR", r.family), " ")
		r.rule(name, "%s", text)
	}
}

// port is one port of one service, with the names of its chains.
type port struct {
	service
	name       string
	protocol   string
	number     int
	nodePort   int
	clusterIP  string
	external   []string
	balancers  []string
	all, local []endpoint
}

func (r *ruleset) service(service service, objects objects) {
	v6 := r.family == "ip6"
	for _, item := range service.Spec.Ports {
		protocol := strings.ToLower(item.Protocol)
		all := objects.endpoints(service.Metadata, item.Name, protocol, r.settings.hostname, v6)
		r.port(port{
			service: service, name: item.Name, protocol: protocol,
			number: item.Port, nodePort: item.NodePort,
			clusterIP: service.clusterIP(v6),
			external:  ofFamily(service.Spec.ExternalIPs, v6),
			balancers: service.loadBalancerIPs(v6),
			all:       all, local: localOnes(all),
		})
	}
}

func (r *ruleset) port(p port) {
	r.element("cluster-ips", p.clusterIP, "")
	r.clusterAddress(p)
	r.externalAddresses(p)
	r.firewall(p)
	if len(p.all) == 0 {
		return
	}
	affine := p.Spec.SessionAffinity == "ClientIP"
	for _, endpoint := range p.all {
		r.endpoint(p, endpoint, affine)
	}
	if p.reaches("service-") {
		r.dispatch(p, p.chain("service-"), p.all, affine)
	}
	if p.reaches("local-") && len(p.local) > 0 {
		r.dispatch(p, p.chain("local-"), p.local, affine)
	}
	r.externalChain(p)
}

// reaches says whether any of the service's traffic goes by way of all endpoints (service-), or
// of those on this node (local-). Pods of the node reach all by the external addresses, too.
func (p port) reaches(policy string) bool {
	if policy == "local-" {
		return p.internalChain() != p.chain("service-") || p.externalLocal()
	}
	return p.internalChain() == p.chain("service-") || p.externallySeen()
}

func (p port) externalLocal() bool {
	return p.externallySeen() && p.Spec.ExternalTrafficPolicy == "Local"
}

func (p port) externallySeen() bool {
	return p.nodePort != 0 || len(p.external) > 0 || len(p.balancers) > 0
}

func (p port) internalChain() string {
	if p.Spec.InternalTrafficPolicy == "Local" {
		return p.chain("local-")
	}
	return p.chain("service-")
}

// clusterAddress leads the service's own address to its endpoints, or refuses it.
func (r *ruleset) clusterAddress(p port) {
	key := p.at(p.clusterIP)
	switch {
	case len(p.all) == 0:
		r.commented("no-endpoint-services", key, p, "goto reject-chain")
	case p.internalChain() == p.chain("local-") && len(p.local) == 0:
		r.commented("no-endpoint-services", key, p, "drop")
	default:
		r.element("service-ips", key, "goto "+p.internalChain())
		r.chain(p.internalChain())
		r.masqueradeForeign(p)
	}
}

// masqueradeForeign lets those who are no pods of the cluster come back the way they went.
func (r *ruleset) masqueradeForeign(p port) {
	match := r.family + " daddr " + p.clusterIP
	pods := ofFamily(r.settings.clusterCIDRs, r.family == "ip6")
	switch {
	case r.settings.masqueradeAll:
		r.rule(p.internalChain(), "%s jump mark-for-masquerade", match)
	case len(pods) > 0:
		r.rule(p.internalChain(), "%s %s saddr != %s jump mark-for-masquerade", match, r.family, pods[0])
	}
}

// externalAddresses leads the NodePort, the external and the balancers' addresses to the service.
func (r *ruleset) externalAddresses(p port) {
	refusal := "goto reject-chain"
	if len(p.all) > 0 {
		refusal = "drop"
	}
	none := len(p.all) == 0 || (p.externalLocal() && len(p.local) == 0)
	capture := func(taking, refusing, key string) {
		if len(p.all) > 0 {
			r.element(taking, key, "goto "+p.chain("external-"))
		}
		if none {
			r.commented(refusing, key, p, refusal)
		}
	}
	for _, address := range append(append([]string{}, p.external...), p.balancers...) {
		capture("service-ips", "no-endpoint-services", p.at(address))
	}
	if p.nodePort != 0 {
		key := fmt.Sprintf("%s . %d", p.protocol, p.nodePort)
		capture("service-nodeports", "no-endpoint-nodeports", key)
	}
}

// externalChain is the way from the outside addresses to the endpoints.
func (r *ruleset) externalChain(p port) {
	if !p.externallySeen() {
		return
	}
	chain := p.chain("external-")
	r.chain(chain)
	if !p.externalLocal() {
		r.rule(chain, "jump mark-for-masquerade")
		r.rule(chain, "goto %s", p.chain("service-"))
		return
	}
	for _, pods := range ofFamily(r.settings.clusterCIDRs, r.family == "ip6") {
		r.rule(chain, `%s saddr %s goto %s comment "short-circuit pod traffic"`,
			r.family, pods, p.chain("service-"))
	}
	r.rule(chain, `fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"`)
	r.rule(chain, `fib saddr type local goto %s comment "short-circuit local traffic"`,
		p.chain("service-"))
	if len(p.local) > 0 {
		r.rule(chain, "goto %s", p.chain("local-"))
	}
}

// firewall lets only the service's source ranges through to its balancers' addresses.
func (r *ruleset) firewall(p port) {
	sources := ofFamily(p.Spec.LoadBalancerSourceRanges, r.family == "ip6")
	if len(sources) == 0 || len(p.balancers) == 0 {
		return
	}
	// A node that may connect does so with the balancer's address where it has that itself.
	if anyContains(sources, r.nodeIPs) {
		sources = append(sources, p.balancers...)
	}
	chain := p.chain("firewall-")
	r.chain(chain)
	r.rule(chain, "%s saddr != { %s } drop", r.family, strings.Join(sources, ", "))
	for _, address := range p.balancers {
		r.commented("firewall-ips", p.at(address), p, "goto "+chain)
	}
}

// dispatch chooses an endpoint: the one that the client had before, or any.
func (r *ruleset) dispatch(p port, chain string, endpoints []endpoint, affine bool) {
	r.chain(chain)
	var choices []string
	for number, endpoint := range endpoints {
		name := p.endpointName(endpoint)
		if affine {
			r.rule(chain, "%s saddr @affinity-%s goto endpoint-%s", r.family, name, name)
		}
		choices = append(choices, fmt.Sprintf("%d : goto endpoint-%s", number, name))
	}
	r.rule(chain, "numgen random mod %d vmap { %s }", len(endpoints), strings.Join(choices, ", "))
}

func (r *ruleset) endpoint(p port, endpoint endpoint, affine bool) {
	name := p.endpointName(endpoint)
	chain := "endpoint-" + name
	r.chain(chain)
	r.rule(chain, "%s saddr %s jump mark-for-masquerade", r.family, endpoint.address)
	if affine {
		set := "affinity-" + name
		timeout := p.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds
		if timeout == 0 {
			timeout = defaultAffinity
		}
		r.sets = append(r.sets, set)
		r.add("set %s kube-proxy %s { type %s ; flags dynamic,timeout ; timeout %ds ; }",
			r.family, set, r.address, timeout)
		r.rule(chain, "update @%s { %s saddr }", set, r.family)
	}
	to := net.JoinHostPort(endpoint.address, fmt.Sprint(endpoint.port))
	r.rule(chain, "meta l4proto %s dnat to %s", p.protocol, to)
}

// at is the key of a service's port in the maps.
func (p port) at(address string) string {
	return fmt.Sprintf("%s . %s . %d", address, p.protocol, p.number)
}

func (p port) chain(prefix string) string {
	return prefix + hashed(fmt.Sprintf("%s/%s/%s", p.Metadata.full(), p.protocol, p.name))
}

func (p port) endpointName(endpoint endpoint) string {
	address := strings.ReplaceAll(endpoint.String(), ":", ".")
	return hashed(fmt.Sprintf("%s/%s/%s__%s", p.Metadata.full(), p.protocol, p.name, address))
}

// hashed puts a hash before a name, so that it can be told from its like and may be cut short.
func hashed(name string) string {
	sum := sha256.Sum256([]byte(name))
	name = base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + name
	if len(name) > nameLimit-16 {
		name = name[:nameLimit-19] + "..."
	}
	return name
}

func (r *ruleset) add(format string, values ...any) {
	r.lines = append(r.lines, "add "+fmt.Sprintf(format, values...))
}

// chain makes sure of an empty chain, once.
func (r *ruleset) chain(name string) {
	for _, known := range r.chains {
		if known == name {
			return
		}
	}
	r.chains = append(r.chains, name)
	r.add("chain %s kube-proxy %s", r.family, name)
	r.lines = append(r.lines, fmt.Sprintf("flush chain %s kube-proxy %s", r.family, name))
}

func (r *ruleset) rule(chain, format string, values ...any) {
	r.elements = append(r.elements,
		fmt.Sprintf("add rule %s kube-proxy %s %s", r.family, chain, fmt.Sprintf(format, values...)))
}

func (r *ruleset) element(name, key, verdict string) {
	if verdict != "" {
		verdict = " : " + verdict
	}
	r.elements = append(r.elements,
		fmt.Sprintf("add element %s kube-proxy %s { %s%s }", r.family, name, key, verdict))
}

// commented adds an element that says which service it is for.
func (r *ruleset) commented(name, key string, p port, verdict string) {
	of := p.Metadata.full()
	if p.name != "" {
		of += ":" + p.name
	}
	r.element(name, fmt.Sprintf("%s comment %q", key, of), verdict)
}

// text returns the transaction: everything named is made before anything refers to it.
func (r *ruleset) text() string {
	return strings.Join(append(append([]string{}, r.lines...), r.elements...), "\n") + "\n"
}

func ofFamily(addresses []string, v6 bool) []string {
	var found []string
	for _, address := range addresses {
		if address = strings.TrimSpace(address); isV6(address) == v6 {
			found = append(found, address)
		}
	}
	return found
}

func localOnes(endpoints []endpoint) []endpoint {
	var found []endpoint
	for _, endpoint := range endpoints {
		if endpoint.local {
			found = append(found, endpoint)
		}
	}
	return found
}

func anyContains(networks, addresses []string) bool {
	for _, text := range networks {
		_, network, err := net.ParseCIDR(text)
		for _, address := range addresses {
			if err == nil && network.Contains(net.ParseIP(address)) {
				return true
			}
		}
	}
	return false
}
