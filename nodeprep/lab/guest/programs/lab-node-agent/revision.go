package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
)

// What a name may be made of without making a word: Kubernetes' own choice.
const letters = "bcdfghjklmnpqrstvwxz2456789"

// templateHash returns a short text that is another for another template. It looks like the
// DaemonSet controller's, and is not the same one: that is made of Go's own view of its types.
func templateHash(template json.RawMessage) (string, error) {
	var content any
	if err := json.Unmarshal(template, &content); err != nil {
		return "", err
	}
	ordered, err := json.Marshal(content)
	if err != nil {
		return "", err
	}
	sum := fnv.New32a()
	sum.Write(ordered)
	text := []byte(fmt.Sprint(sum.Sum32()))
	for place, digit := range text {
		text[place] = letters[int(digit)%len(letters)]
	}
	return string(text), nil
}

type revision struct {
	Metadata metadata
	Revision int
}

// ensureRevision keeps the template as a ControllerRevision, as the DaemonSet controller does: a
// pod is of the newest template if its hash is the one of the highest revision.
func (a *agent) ensureRevision(all daemons) {
	uid := all.set.Metadata.UID
	if a.revisions[uid+all.hash] {
		return
	}
	path := "/apis/apps/v1/namespaces/" + all.set.Metadata.Namespace + "/controllerrevisions"
	var there struct{ Items []revision }
	if err := a.api.get(path, &there); err != nil {
		say("reading revisions: %v", err)
		return
	}
	name := all.set.Metadata.Name + "-" + all.hash
	highest, own := 0, 0
	for _, one := range there.Items {
		if len(one.Metadata.OwnerReferences) == 0 || one.Metadata.OwnerReferences[0].UID != uid {
			continue
		}
		if one.Revision > highest {
			highest = one.Revision
		}
		if one.Metadata.Name == name {
			own = one.Revision
		}
	}
	if err := a.writeRevision(all, path, name, own, highest); err != nil {
		say("revision %s: %v", name, err)
		return
	}
	// An older template may come back, and then is the newest once more.
	for key := range a.revisions {
		if len(key) > len(uid) && key[:len(uid)] == uid {
			delete(a.revisions, key)
		}
	}
	a.revisions[uid+all.hash] = true
}

func (a *agent) writeRevision(all daemons, path, name string, own, highest int) error {
	if own > 0 && own == highest {
		return nil
	}
	if own > 0 {
		return a.api.patch(path+"/"+name, mergePatch, object{"revision": highest + 1})
	}
	var template object
	if err := json.Unmarshal(all.set.Spec.Template, &template); err != nil {
		return err
	}
	about, _ := template["metadata"].(map[string]any)
	labels := object{hashLabel: all.hash}
	if own, ok := about["labels"].(map[string]any); ok {
		for label, value := range own {
			labels[label] = value
		}
	}
	template["$patch"] = "replace"
	err := a.api.create(path, object{
		"apiVersion": "apps/v1",
		"kind":       "ControllerRevision",
		"metadata": object{
			"name": name, "labels": labels, "annotations": all.set.Metadata.Annotations,
			"ownerReferences": []object{all.reference()},
		},
		"data":     object{"spec": object{"template": template}},
		"revision": highest + 1,
	}, nil)
	if statusOf(err) == http.StatusConflict {
		// Another node's agent was first.
		return nil
	}
	return err
}
