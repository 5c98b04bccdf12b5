package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strings"
)

// service is what the rules need of a Service object.
type service struct {
	Metadata metadata
	Spec     struct {
		Type                  string
		ClusterIP             string
		ClusterIPs            []string
		ExternalIPs           []string
		SessionAffinity       string
		SessionAffinityConfig struct {
			ClientIP struct{ TimeoutSeconds int }
		}
		ExternalTrafficPolicy    string
		InternalTrafficPolicy    string
		LoadBalancerSourceRanges []string
		Ports                    []struct {
			Name     string
			Protocol string
			Port     int
			NodePort int
		}
	}
	Status struct {
		LoadBalancer struct {
			Ingress []struct{ IP, IPMode string }
		}
	}
}

type metadata struct {
	Name      string
	Namespace string
	Labels    map[string]string
}

// endpointSlice is what the rules need of an EndpointSlice, v1beta1 or v1.
type endpointSlice struct {
	Metadata    metadata
	AddressType string
	Endpoints   []struct {
		Addresses  []string
		Conditions struct{ Ready *bool }
		NodeName   string
		Topology   map[string]string
	}
	Ports []struct {
		Name     string
		Protocol string
		Port     int
	}
}

// objects is one reading of the cluster.
type objects struct {
	services []service
	slices   []endpointSlice
}

// endpoint is one place that a port of a service leads to.
type endpoint struct {
	address string
	port    int
	local   bool
}

const (
	servicesPath = "/api/v1/services"
	slicesV1     = "/apis/discovery.k8s.io/v1/endpointslices"
	slicesBeta   = "/apis/discovery.k8s.io/v1beta1/endpointslices"
)

// get reads an object. The status code is told because 404 is an answer.
func (a api) get(path string, into any) (int, error) {
	request, err := http.NewRequest(http.MethodGet, a.server+path, nil)
	if err != nil {
		return 0, err
	}
	if token := a.bearer(); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := a.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return response.StatusCode, fmt.Errorf("%s: %s", path, response.Status)
	}
	return response.StatusCode, json.NewDecoder(response.Body).Decode(into)
}

// bearer returns the token as it is now.
func (a api) bearer() string {
	if a.tokenFile == "" {
		return a.token
	}
	text, err := os.ReadFile(a.tokenFile)
	if err != nil {
		problem("%v", err)
	}
	return strings.TrimSpace(string(text))
}

func (a api) read() (objects, error) {
	var services struct{ Items []service }
	var slices struct{ Items []endpointSlice }
	if _, err := a.get(servicesPath, &services); err != nil {
		return objects{}, err
	}
	status, err := a.get(slicesV1, &slices)
	if status == http.StatusNotFound {
		_, err = a.get(slicesBeta, &slices)
	}
	return objects{services: services.Items, slices: slices.Items}, err
}

// nodeIPs returns the node's internal addresses, of which kube-proxy takes the first as primary.
func (a api) nodeIPs(name string) ([]string, error) {
	var node struct {
		Status struct {
			Addresses []struct{ Type, Address string }
		}
	}
	if _, err := a.get("/api/v1/nodes/"+name, &node); err != nil {
		return nil, err
	}
	var found []string
	for _, address := range node.Status.Addresses {
		if address.Type == "InternalIP" {
			found = append(found, address.Address)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("node %s has no InternalIP", name)
	}
	return found, nil
}

// proxied says whether the service is kube-proxy's business.
func (s service) proxied() bool {
	_, elsewhere := s.Metadata.Labels["service.kubernetes.io/service-proxy-name"]
	headless := s.Spec.ClusterIP == "" || s.Spec.ClusterIP == "None"
	return !elsewhere && !headless && s.Spec.Type != "ExternalName"
}

// clusterIP returns the service's address of one family, or nothing.
func (s service) clusterIP(v6 bool) string {
	for _, address := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		if isV6(address) == v6 {
			return address
		}
	}
	return ""
}

// loadBalancerIPs returns the addresses that the node itself answers on for a load balancer.
func (s service) loadBalancerIPs(v6 bool) []string {
	var found []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if ingress.IP != "" && ingress.IPMode != "Proxy" && isV6(ingress.IP) == v6 {
			found = append(found, ingress.IP)
		}
	}
	return found
}

// endpoints returns the ready endpoints of one port of a service, sorted.
func (o objects) endpoints(service metadata, port, protocol, hostname string, v6 bool) []endpoint {
	var found []endpoint
	for _, slice := range o.slices {
		number := slice.port(port, protocol)
		if number == 0 || !slice.of(service) || (slice.AddressType == "IPv6") != v6 {
			continue
		}
		for _, item := range slice.Endpoints {
			if len(item.Addresses) == 0 || (item.Conditions.Ready != nil && !*item.Conditions.Ready) {
				continue
			}
			node := item.NodeName
			if node == "" {
				node = item.Topology["kubernetes.io/hostname"]
			}
			found = append(found, endpoint{item.Addresses[0], number, node == hostname})
		}
	}
	sort.Slice(found, func(a, b int) bool { return found[a].String() < found[b].String() })
	return found
}

func (s endpointSlice) of(service metadata) bool {
	return s.Metadata.Namespace == service.Namespace &&
		s.Metadata.Labels["kubernetes.io/service-name"] == service.Name
}

func (s endpointSlice) port(name, protocol string) int {
	for _, port := range s.Ports {
		if port.Name == name && strings.EqualFold(port.Protocol, protocol) {
			return port.Port
		}
	}
	return 0
}

func (e endpoint) String() string { return fmt.Sprintf("%s/%d", e.address, e.port) }
