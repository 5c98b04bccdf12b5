package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
)

const (
	// The seed disk has them, each named as it is here.
	imagesFolder = "/srv/lab/images"
	// Where this file is, no image can be had: as with a registry that is out of reach.
	noImages = "/run/lab-node-agent.no-images"
	inImage  = "/usr/local/bin/kube-proxy"
	// Where the stand-in finds the real one, for the modes that are not its own.
	besideIt      = "/usr/local/libexec/kube-proxy"
	firstNftables = 29
)

// image is a program, under the names that it has inside of a container.
type image struct {
	files   map[string]string
	env     []string
	command []string
}

var tagged = regexp.MustCompile(`^(?:.*/)?([^/:]+):v?1\.(\d+)(?:\.|$)`)

// findImage returns what stands for an image: kube-proxy 1.20 is the real one, kube-proxy from 1.29
// on is the lab's stand-in, and pause sleeps.
func findImage(name string) (image, error) {
	if _, err := os.Stat(noImages); err == nil {
		return image{}, fmt.Errorf("%s: %s says that there is none to be had", name, noImages)
	}
	if filepath.Base(name) == "pause" || regexp.MustCompile(`(^|/)pause:`).MatchString(name) {
		return image{command: []string{"/usr/bin/sleep", "infinity"}}, nil
	}
	found := tagged.FindStringSubmatch(name)
	if found == nil || found[1] != "kube-proxy" {
		return image{}, fmt.Errorf("%s: the lab has no such image", name)
	}
	realOne := imagesFolder + "/kube-proxy"
	standIn := imagesFolder + "/kube-proxy-stand-in"
	minor, _ := strconv.Atoi(found[2])
	switch {
	case minor == 20:
		return image{files: map[string]string{inImage: realOne}}, nil
	case minor >= firstNftables:
		return image{
			files: map[string]string{inImage: standIn, besideIt: realOne},
			env:   []string{"STAND_IN_REAL=" + besideIt},
		}, nil
	}
	return image{}, fmt.Errorf("%s: the lab has kube-proxy 1.20, and a stand-in from 1.29 on", name)
}
