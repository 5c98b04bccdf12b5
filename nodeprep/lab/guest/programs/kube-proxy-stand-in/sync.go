package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

const pollEvery = 2 * time.Second

// checkNftables says why nftables mode cannot be: no program, in most cases.
func checkNftables() error {
	_, err := program("", "nft", "--version")
	return err
}

// keepSynced writes the rules, and again whenever the cluster changed or the sync period passed.
func keepSynced(settings settings, health *health) {
	api, err := readKubeconfig(settings.kubeconfig)
	if err != nil {
		fatal("unable to create proxier: %v", err)
	}
	var written string
	var when time.Time
	for ; ; time.Sleep(pollEvery) {
		rules, err := wanted(settings, api)
		if err != nil {
			problem("Failed to read the cluster: %v", err)
			continue
		}
		text := texts(rules)
		if text == written && time.Since(when) < settings.syncPeriod {
			continue
		}
		if err := write(rules); err != nil {
			problem("nftables sync failed: %v", err)
			continue
		}
		written, when = text, time.Now()
		health.synced(when, families(rules))
	}
}

// wanted returns the rules of each family that this kernel has.
func wanted(settings settings, api api) ([]*ruleset, error) {
	nodeIPs, err := api.nodeIPs(settings.hostname)
	if err != nil {
		return nil, err
	}
	objects, err := api.read()
	if err != nil {
		return nil, err
	}
	rules := []*ruleset{render(settings, nodeIPs, objects, false)}
	if _, err := os.Stat("/proc/net/if_inet6"); err == nil {
		rules = append(rules, render(settings, nodeIPs, objects, true))
	}
	return rules, nil
}

func texts(rules []*ruleset) string {
	var all strings.Builder
	for _, one := range rules {
		all.WriteString(one.text())
	}
	return all.String()
}

func families(rules []*ruleset) []string {
	var names []string
	for _, one := range rules {
		names = append(names, map[string]string{"ip": "IPv4", "ip6": "IPv6"}[one.family])
	}
	return names
}

// write puts the rules in place, each family in one transaction, and then removes what nothing
// refers to any more. Affinity sets that stay keep what is in them.
func write(rules []*ruleset) error {
	for _, one := range rules {
		stale := one.stale()
		text := one.text()
		for _, name := range stale.chains {
			text += fmt.Sprintf("flush chain %s kube-proxy %s\n", one.family, name)
		}
		if _, err := program(text, "nft", "-f", "-"); err != nil {
			return err
		}
		if err := one.remove(stale); err != nil {
			problem("Unable to delete stale chains: %v", err)
		}
	}
	return nil
}

// names are chains and sets of a service: all others of the table are always there.
type names struct{ chains, sets []string }

var (
	chainLine = regexp.MustCompile(`(?m)^\s*chain (\S+/\S*) \{`)
	setLine   = regexp.MustCompile(`(?m)^\s*set (affinity-\S+) \{`)
)

// stale returns what the table in the kernel has and these rules do not.
func (r *ruleset) stale() names {
	// No such table is no trouble: there is nothing stale then.
	listing, _ := program("", "nft", "--terse", "list", "table", r.family, "kube-proxy")
	return names{
		chains: without(chainLine.FindAllStringSubmatch(listing, -1), r.chains),
		sets:   without(setLine.FindAllStringSubmatch(listing, -1), r.sets),
	}
}

func without(found [][]string, wanted []string) []string {
	keep := map[string]bool{}
	for _, name := range wanted {
		keep[name] = true
	}
	var rest []string
	for _, match := range found {
		if !keep[match[1]] {
			rest = append(rest, match[1])
		}
	}
	return rest
}

func (r *ruleset) remove(stale names) error {
	var lines []string
	for _, name := range stale.chains {
		lines = append(lines, fmt.Sprintf("delete chain %s kube-proxy %s\n", r.family, name))
	}
	for _, name := range stale.sets {
		lines = append(lines, fmt.Sprintf("delete set %s kube-proxy %s\n", r.family, name))
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := program(strings.Join(lines, ""), "nft", "-f", "-")
	return err
}
