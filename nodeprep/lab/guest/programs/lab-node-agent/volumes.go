package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// volume is one of a pod's, of those kinds that kube-proxy's pods have.
type volume struct {
	Name      string
	ConfigMap *struct {
		Name  string
		Items []item
	}
	HostPath  *struct{ Path, Type string }
	EmptyDir  *struct{}
	Projected *struct{ Sources []projection }
}

type item struct{ Key, Path string }

type projection struct {
	ServiceAccountToken *struct {
		Path              string
		ExpirationSeconds int
	}
	ConfigMap *struct {
		Name  string
		Items []item
	}
	DownwardAPI *struct {
		Items []struct {
			Path     string
			FieldRef fieldRef
		}
	}
}

// mount is a place of the container, and what is to be seen there.
type mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// place is where on the node the volume is.
func (v volume) place(folder string) string {
	if v.HostPath != nil {
		return v.HostPath.Path
	}
	return filepath.Join(folder, "volumes", v.Name)
}

// mountsOf returns what the container sees of the pod's volumes.
func mountsOf(one pod, folder string) ([]mount, error) {
	places := map[string]string{}
	for _, volume := range one.Spec.Volumes {
		places[volume.Name] = volume.place(folder)
	}
	var mounts []mount
	for _, wanted := range one.Spec.Containers[0].VolumeMounts {
		if places[wanted.Name] == "" {
			return nil, fmt.Errorf("no volume is named %s", wanted.Name)
		}
		mounts = append(mounts, mount{places[wanted.Name], wanted.MountPath, wanted.ReadOnly})
	}
	return mounts, nil
}

// writeVolumes writes what the pod's volumes have at this moment into its folder.
func writeVolumes(api *api, one pod, folder string) error {
	for _, volume := range one.Spec.Volumes {
		if err := volume.write(api, one, volume.place(folder)); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

func (v volume) write(api *api, one pod, place string) error {
	if v.HostPath != nil {
		return makeHostPath(place, v.HostPath.Type)
	}
	if err := os.MkdirAll(place, 0o755); err != nil {
		return err
	}
	switch {
	case v.ConfigMap != nil:
		return writeConfigMap(api, one, v.ConfigMap.Name, v.ConfigMap.Items, place)
	case v.Projected != nil:
		for _, source := range v.Projected.Sources {
			if err := source.write(api, one, place); err != nil {
				return err
			}
		}
		return nil
	case v.EmptyDir != nil:
		return nil
	}
	return fmt.Errorf("the lab knows no such kind of volume")
}

func makeHostPath(path, kind string) error {
	switch kind {
	case "FileOrCreate":
		file, err := os.OpenFile(path, os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		return file.Close()
	case "DirectoryOrCreate":
		return os.MkdirAll(path, 0o755)
	}
	_, err := os.Stat(path)
	return err
}

func (p projection) write(api *api, one pod, folder string) error {
	if p.ServiceAccountToken != nil {
		token, err := requestToken(api, one, p.ServiceAccountToken.ExpirationSeconds)
		if err != nil {
			return err
		}
		return replace(filepath.Join(folder, p.ServiceAccountToken.Path), []byte(token))
	}
	if p.ConfigMap != nil {
		return writeConfigMap(api, one, p.ConfigMap.Name, p.ConfigMap.Items, folder)
	}
	if p.DownwardAPI != nil {
		for _, item := range p.DownwardAPI.Items {
			text := one.field(item.FieldRef.FieldPath)
			if err := replace(filepath.Join(folder, item.Path), []byte(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeConfigMap(api *api, one pod, name string, items []item, folder string) error {
	var found struct {
		Data       map[string]string
		BinaryData map[string]string
	}
	path := "/api/v1/namespaces/" + one.Metadata.Namespace + "/configmaps/" + name
	if err := api.get(path, &found); err != nil {
		return err
	}
	content := map[string][]byte{}
	for key, text := range found.Data {
		content[key] = []byte(text)
	}
	for key, text := range found.BinaryData {
		content[key], _ = base64.StdEncoding.DecodeString(text)
	}
	if items == nil {
		for key := range content {
			items = append(items, item{key, key})
		}
	}
	for _, item := range items {
		text, there := content[item.Key]
		if !there {
			return fmt.Errorf("ConfigMap %s has no %s", name, item.Key)
		}
		if err := replace(filepath.Join(folder, item.Path), text); err != nil {
			return err
		}
	}
	return nil
}

// requestToken asks for a token of the pod's own ServiceAccount, which ends with the pod.
func requestToken(api *api, one pod, seconds int) (string, error) {
	account := one.Spec.ServiceAccountName
	path := "/api/v1/namespaces/" + one.Metadata.Namespace + "/serviceaccounts/" + account + "/token"
	request := object{
		"apiVersion": "authentication.k8s.io/v1",
		"kind":       "TokenRequest",
		"spec": object{
			"expirationSeconds": seconds,
			"boundObjectRef": object{
				"apiVersion": "v1", "kind": "Pod",
				"name": one.Metadata.Name, "uid": one.Metadata.UID,
			},
		},
	}
	var answer struct{ Status struct{ Token string } }
	err := api.create(path, request, &answer)
	return answer.Status.Token, err
}

// tokenIsOlder says whether the pod has a token that was written longer ago than this.
func tokenIsOlder(one pod, folder string, age time.Duration) bool {
	for _, volume := range one.Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken == nil {
				continue
			}
			file := filepath.Join(folder, "volumes", volume.Name, source.ServiceAccountToken.Path)
			if found, err := os.Stat(file); err == nil && time.Since(found.ModTime()) > age {
				return true
			}
		}
	}
	return false
}

// replace writes a file in one step, for its owner alone.
func replace(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
