package main

import (
	"os"
	"strings"
	"syscall"
	"time"
)

const (
	kubeletVersion = "v1.20.2"
	heartbeat      = 5 * time.Minute
)

// registerNode tells the API server what the kubelet tells it of its node, now and then.
//
// Every node of the lab has the same address, each in a network of its own: a node is told from
// another by its name.
func registerNode(api *api, name string) {
	for began := time.Now(); ; {
		err := api.patch(nodesPath+"/"+name+"/status", strategic, object{"status": object{
			"nodeInfo": nodeInfo(),
			"conditions": []object{{
				"type": "Ready", "status": "True", "reason": "KubeletReady",
				"message":            "the lab's agent is posting ready status",
				"lastHeartbeatTime":  time.Now().UTC().Format(time.RFC3339),
				"lastTransitionTime": began.UTC().Format(time.RFC3339),
			}},
		}})
		if err != nil {
			say("status of the node: %v", err)
			time.Sleep(retryPause)
			continue
		}
		time.Sleep(heartbeat)
	}
}

func nodeInfo() object {
	var kernel syscall.Utsname
	syscall.Uname(&kernel)
	return object{
		"machineID":               content("/etc/machine-id"),
		"systemUUID":              content("/etc/machine-id"),
		"bootID":                  content("/proc/sys/kernel/random/boot_id"),
		"kernelVersion":           text(kernel.Release),
		"osImage":                 prettyName(),
		"containerRuntimeVersion": "lab-node-agent://1",
		"kubeletVersion":          kubeletVersion,
		"kubeProxyVersion":        kubeletVersion,
		"operatingSystem":         "linux",
		"architecture":            "amd64",
	}
}

func content(path string) string {
	found, _ := os.ReadFile(path)
	return strings.TrimSpace(string(found))
}

func text(letters [65]int8) string {
	var found []byte
	for _, letter := range letters {
		if letter == 0 {
			break
		}
		found = append(found, byte(letter))
	}
	return string(found)
}

func prettyName() string {
	for _, line := range strings.Split(content("/etc/os-release"), "\n") {
		if name, value, _ := strings.Cut(line, "="); name == "PRETTY_NAME" {
			return strings.Trim(value, `"`)
		}
	}
	return "Linux"
}
