// Command kube-proxy-stand-in is NOT kube-proxy. It stands in, in the lab, for a kube-proxy of 1.33
// where the lab's real one, 1.20, has nothing to offer: nftables mode, and the cleaning that
// kube-proxy does since 1.31 when it starts in another mode than before.
//
// In mode nftables it does in the real kernel what a reader of the node can see of the real one:
//
//  1. cleans up after iptables and ipvs mode, with the flush of the whole IPVS table (leftovers.go),
//  2. waits, as the real one needs seconds from there to its first sync,
//  3. writes the tables of the cluster's real Services, in one transaction (ruleset.go, sync.go),
//  4. says so on the health and metrics addresses (health.go).
//
// In modes iptables and ipvs it deletes the nftables tables, waits, and then becomes the real
// kube-proxy 1.20, which is given the same arguments.
//
// It has no watches (it asks the API server every two seconds), no conntrack cleaning, no health
// check ports for services, no topology, no SCTP. How it behaves is taken from descriptions of
// kube-proxy, and its text is its own.
//
// Two settings come from the environment, since a unit's arguments are kube-proxy's own:
// STAND_IN_PAUSE (how long it waits, such as 3s) and STAND_IN_REAL (where the real one is).
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const (
	version = "v1.33.0-nftables-stand-in"
	notice  = "This is a stand-in for kube-proxy, for nodeprep's lab only. It is not kube-proxy."
	// The real one was seen to need 6 to 9 seconds into nftables, and 3 out of it.
	pauseInto  = 3 * time.Second
	pauseOutOf = 2 * time.Second
	realOne    = "/usr/local/bin/kube-proxy"
)

func main() {
	flags := flag.NewFlagSet("kube-proxy-stand-in", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "%s\n\n", notice)
		flags.PrintDefaults()
	}
	file := flags.String("config", "", "`FILE` with a KubeProxyConfiguration")
	flags.Int("v", 0, "taken, and ignored")
	hostname := flags.String("hostname-override", "", "the Node object's `NAME`")
	cleanup := flags.Bool("cleanup", false, "remove the rules of all modes and exit")
	asked := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(1)
	}
	switch {
	case *asked:
		fmt.Println("Kubernetes " + version)
	case *cleanup:
		cleanIptablesAndIPVS()
		cleanNftables()
	default:
		run(*file, *hostname)
	}
}

func run(file, hostname string) {
	info(notice)
	settings, err := readSettings(file, hostname)
	if err != nil {
		fatal("unable to read the configuration: %v", err)
	}
	switch settings.mode {
	case "nftables":
		runNftables(settings)
	case "iptables", "ipvs", "":
		cleanNftables()
		time.Sleep(pause(pauseOutOf))
		become(environment("STAND_IN_REAL", realOne))
	default:
		fatal("unknown proxy mode %q", settings.mode)
	}
}

func runNftables(settings settings) {
	health := &health{}
	health.serve(settings.healthzAddress, settings.metricsAddress)
	cleanIptablesAndIPVS()
	info(`"Using nftables Proxier"`)
	if err := checkNftables(); err != nil {
		fatal("unable to create proxier: %v", err)
	}
	ending := make(chan os.Signal, 1)
	signal.Notify(ending, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		// As kube-proxy does: the rules stay.
		<-ending
		os.Exit(0)
	}()
	time.Sleep(pause(pauseInto))
	keepSynced(settings, health)
}

// become puts the real kube-proxy into this process's place.
func become(program string) {
	info("becoming %s", program)
	arguments := append([]string{program}, os.Args[1:]...)
	fatal("%s: %v", program, syscall.Exec(program, arguments, os.Environ()))
}

func pause(usual time.Duration) time.Duration {
	told, err := time.ParseDuration(environment("STAND_IN_PAUSE", usual.String()))
	if err != nil {
		fatal("STAND_IN_PAUSE: %v", err)
	}
	return told
}

func environment(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
