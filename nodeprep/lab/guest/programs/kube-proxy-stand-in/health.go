package main

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// health is what the stand-in says of itself over HTTP, from its start on. As with kube-proxy,
// it calls itself healthy before the first sync: lastUpdated tells whether there was one.
type health struct {
	mu       sync.Mutex
	updated  time.Time
	families []string
}

func (h *health) synced(when time.Time, families []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.updated.IsZero() {
		info("first sync is done")
	}
	h.updated, h.families = when, families
}

// serve answers on both addresses. One that is taken is waited for, as kube-proxy does.
func (h *health) serve(healthz, metrics string) {
	state := http.NewServeMux()
	state.HandleFunc("/healthz", h.healthz)
	state.HandleFunc("/livez", h.healthz)
	go listen(healthz, state)
	numbers := http.NewServeMux()
	numbers.HandleFunc("/proxyMode", say("nftables"))
	numbers.HandleFunc("/healthz", say("ok"))
	numbers.HandleFunc("/metrics", h.metrics)
	go listen(metrics, numbers)
}

func listen(address string, handler http.Handler) {
	for ; ; time.Sleep(5 * time.Second) {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			err = http.Serve(listener, handler)
		}
		problem("Failed to serve on %s: %v", address, err)
	}
}

func say(text string) http.HandlerFunc {
	return func(response http.ResponseWriter, _ *http.Request) { fmt.Fprint(response, text) }
}

func (h *health) healthz(response http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	response.Header().Set("Content-Type", "application/json")
	response.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprintf(response, `{"lastUpdated": %q,"currentTime": %q, "nodeEligible": true}`,
		h.updated.String(), time.Now().String())
}

func (h *health) metrics(response http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	const name = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	fmt.Fprintf(response, "# HELP %s The last time proxy rules were successfully synced\n", name)
	fmt.Fprintf(response, "# TYPE %s gauge\n", name)
	for _, family := range h.families {
		seconds := strconv.FormatFloat(float64(h.updated.UnixNano())/1e9, 'g', -1, 64)
		fmt.Fprintf(response, "%s{ip_family=%q} %s\n", name, family, seconds)
	}
}
