package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// What kube-proxy 1.31 and later remove when they start in nftables mode, and what they overlook:
// KUBE-MARK-MASQ, KUBE-MARK-DROP and the canaries stay, as do the ipsets named KUBE-6- and every
// set that a chain they do not know still refers to.

var ownedChains = map[string]*regexp.Regexp{
	"nat": regexp.MustCompile(`^KUBE-(SERVICES|NODEPORTS|POSTROUTING|NODE-PORT|LOAD-BALANCER|` +
		`(SVC|SEP|FW|XLB|SVL|EXT)-.*)$`),
	"filter": regexp.MustCompile(`^KUBE-(SERVICES|EXTERNAL-SERVICES|FORWARD|NODEPORTS|NODE-PORT|` +
		`SOURCE-RANGES-FIREWALL|IPVS-FILTER|IPVS-OUT-FILTER)$`),
}

var (
	chainDeclared = regexp.MustCompile(`^:(\S+) `)
	jump          = regexp.MustCompile(`^-A (\S+) (?:.* )?-j (\S+)`)
	ownedSet      = regexp.MustCompile(`^KUBE-(LOOP-BACK|CLUSTER-IP|EXTERNAL-IP(-LOCAL)?|` +
		`LOAD-BALANCER(-FW|-LOCAL|-SOURCE-IP|-SOURCE-CIDR)?|` +
		`NODE-PORT-(LOCAL-)?(TCP|UDP|SCTP-HASH)|HEALTH-CHECK-NODE-PORT|IPVS-IPS)$`)
)

// cleanIptablesAndIPVS removes the rules of both older modes. What fails is told and left.
func cleanIptablesAndIPVS() {
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		// All of it, whoever made it: so does the real one.
		try("", "ipvsadm", "--clear")
	}
	if _, err := os.Stat("/sys/class/net/kube-ipvs0"); err == nil {
		try("", "ip", "link", "delete", "kube-ipvs0")
	}
	for _, iptables := range []string{"iptables", "ip6tables"} {
		if _, err := exec.LookPath(iptables + "-save"); err == nil {
			cleanTables(iptables)
		}
	}
	if _, err := exec.LookPath("ipset"); err == nil {
		destroySets()
	}
}

func cleanTables(iptables string) {
	for table, owned := range ownedChains {
		saved, err := program("", iptables+"-save", "-t", table)
		if err != nil {
			problem("%v", err)
			continue
		}
		if commands := removal(table, saved, owned); commands != "" {
			try(commands, iptables+"-restore", "--noflush", "--wait=5")
		}
	}
}

// removal returns what iptables-restore reads to take the owned chains away: the rules that lead
// there from chains of others first.
func removal(table, saved string, owned *regexp.Regexp) string {
	var declare, unlink, remove []string
	for _, line := range strings.Split(saved, "\n") {
		if chain := chainDeclared.FindStringSubmatch(line); chain != nil && owned.MatchString(chain[1]) {
			declare = append(declare, fmt.Sprintf(":%s - [0:0]", chain[1]))
			remove = append(remove, "-X "+chain[1])
		}
		if rule := jump.FindStringSubmatch(line); rule != nil &&
			owned.MatchString(rule[2]) && !owned.MatchString(rule[1]) {
			unlink = append(unlink, "-D"+line[len("-A"):])
		}
	}
	if len(declare) == 0 {
		return ""
	}
	lines := append(append(append([]string{"*" + table}, declare...), unlink...), remove...)
	return strings.Join(append(lines, "COMMIT"), "\n") + "\n"
}

func destroySets() {
	listing, err := program("", "ipset", "list", "-name")
	if err != nil {
		problem("%v", err)
	}
	for _, name := range strings.Fields(listing) {
		if ownedSet.MatchString(name) {
			try("", "ipset", "destroy", name)
		}
	}
}

// cleanNftables removes the tables of nftables mode.
func cleanNftables() {
	if _, err := exec.LookPath("nft"); err != nil {
		return
	}
	listing, _ := program("", "nft", "list", "tables")
	for _, line := range strings.Split(listing, "\n") {
		if line == "table ip kube-proxy" || line == "table ip6 kube-proxy" {
			try("", "nft", append([]string{"delete"}, strings.Fields(line)...)...)
		}
	}
}

func try(input, name string, arguments ...string) {
	if _, err := program(input, name, arguments...); err != nil {
		problem("%v", err)
	}
}

// program runs another program with this input and returns what it wrote.
func program(input, name string, arguments ...string) (string, error) {
	command := exec.Command(name, arguments...)
	command.Stdin = strings.NewReader(input)
	output, err := command.CombinedOutput()
	if err != nil {
		words := strings.Join(append([]string{name}, arguments...), " ")
		return "", fmt.Errorf("%s: %v: %s", words, err, strings.TrimSpace(string(output)))
	}
	return string(output), nil
}
