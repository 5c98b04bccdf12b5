package main

import (
	"encoding/json"
	"time"
)

// metadata is what the agent needs of any object's.
type metadata struct {
	Name                       string
	Namespace                  string
	UID                        string
	ResourceVersion            string
	Generation                 int
	Labels                     map[string]string
	Annotations                map[string]string
	OwnerReferences            []owner
	CreationTimestamp          time.Time
	DeletionTimestamp          *time.Time
	DeletionGracePeriodSeconds *int
}

type owner struct {
	Kind       string
	Name       string
	UID        string
	Controller bool
}

// node is a Node: who it is, and what it answers to.
type node struct {
	Metadata metadata
	Status   struct {
		Addresses []struct{ Type, Address string }
	}
}

func (n node) meta() metadata { return n.Metadata }

// internalIP returns its first internal address, or nothing.
func (n node) internalIP() string {
	for _, address := range n.Status.Addresses {
		if address.Type == "InternalIP" {
			return address.Address
		}
	}
	return ""
}

// daemonSet is a DaemonSet. Its template is kept as it came: pods are made of it word by word.
type daemonSet struct {
	Metadata metadata
	Spec     struct {
		Template        json.RawMessage
		MinReadySeconds int
		UpdateStrategy  struct {
			Type          string
			RollingUpdate struct{ MaxUnavailable any }
		}
	}
	Status map[string]any
}

func (d daemonSet) meta() metadata { return d.Metadata }

// pod is a Pod.
type pod struct {
	Metadata metadata
	Spec     podSpec
	Status   struct {
		StartTime  *time.Time
		Conditions []struct {
			Type, Status       string
			LastTransitionTime time.Time
		}
	}
}

func (p pod) meta() metadata { return p.Metadata }

// path is where the API server has it.
func (p pod) path() string {
	return "/api/v1/namespaces/" + p.Metadata.Namespace + "/pods/" + p.Metadata.Name
}

// controller returns the UID of the DaemonSet that it belongs to, or nothing.
func (p pod) controller() string {
	for _, owner := range p.Metadata.OwnerReferences {
		if owner.Controller && owner.Kind == "DaemonSet" {
			return owner.UID
		}
	}
	return ""
}

// readySince returns when it became ready, or nil where it is not.
func (p pod) readySince() *time.Time {
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" && condition.Status == "True" {
			return &condition.LastTransitionTime
		}
	}
	return nil
}

// podSpec is what the agent heeds of a pod's specification.
type podSpec struct {
	NodeName                      string
	NodeSelector                  map[string]string
	ServiceAccountName            string
	TerminationGracePeriodSeconds *int
	Affinity                      struct {
		NodeAffinity struct {
			Required *struct {
				NodeSelectorTerms []nodeTerm
			} `json:"requiredDuringSchedulingIgnoredDuringExecution"`
		}
	}
	Containers []container
	Volumes    []volume
}

type container struct {
	Name    string
	Image   string
	Command []string
	Args    []string
	Env     []struct {
		Name      string
		Value     string
		ValueFrom *struct{ FieldRef *fieldRef }
	}
	VolumeMounts []struct {
		Name      string
		MountPath string
		ReadOnly  bool
	}
}

type fieldRef struct{ FieldPath string }

// field returns what the downward API knows of a pod under this path.
func (p pod) field(path string) string {
	return map[string]string{
		"spec.nodeName":           p.Spec.NodeName,
		"spec.serviceAccountName": p.Spec.ServiceAccountName,
		"metadata.name":           p.Metadata.Name,
		"metadata.namespace":      p.Metadata.Namespace,
		"metadata.uid":            p.Metadata.UID,
	}[path]
}
