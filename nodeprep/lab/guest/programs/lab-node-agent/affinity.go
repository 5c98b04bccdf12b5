package main

// nodeTerm is one of the terms of which a node has to meet one.
type nodeTerm struct {
	MatchExpressions []requirement
	MatchFields      []requirement
}

// requirement is one line of a term: all of them have to hold.
type requirement struct {
	Key      string
	Operator string
	Values   []string
}

// fits says whether a pod of this specification may be on the node: by its nodeSelector and its
// required nodeAffinity.
func (spec podSpec) fits(node node) bool {
	labels := node.Metadata.Labels
	for key, value := range spec.NodeSelector {
		if found, there := labels[key]; !there || found != value {
			return false
		}
	}
	required := spec.Affinity.NodeAffinity.Required
	if required == nil {
		return true
	}
	for _, term := range required.NodeSelectorTerms {
		if term.holds(node) {
			return true
		}
	}
	return false
}

// holds says whether the node meets the whole term. An empty one is met by none.
func (t nodeTerm) holds(node node) bool {
	fields := map[string]string{"metadata.name": node.Metadata.Name}
	return len(t.MatchExpressions)+len(t.MatchFields) > 0 &&
		all(t.MatchExpressions, node.Metadata.Labels) && all(t.MatchFields, fields)
}

func all(requirements []requirement, labels map[string]string) bool {
	for _, one := range requirements {
		if !one.holds(labels) {
			return false
		}
	}
	return true
}

func (r requirement) holds(labels map[string]string) bool {
	value, there := labels[r.Key]
	switch r.Operator {
	case "In":
		return there && contains(r.Values, value)
	case "NotIn":
		return !there || !contains(r.Values, value)
	case "Exists":
		return there
	case "DoesNotExist":
		return !there
	}
	say("not known here: operator %q", r.Operator)
	return false
}

func contains(values []string, wanted string) bool {
	for _, value := range values {
		if value == wanted {
			return true
		}
	}
	return false
}
