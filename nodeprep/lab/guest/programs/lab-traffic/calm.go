package main

import (
	"os"
	"path/filepath"
)

// Go's scheduler has a thread that looks after the others every 20 microseconds while anything
// runs. Each look is a timer and two changes of thread: next to nothing on a processor, and most
// of what a connection costs on an emulated one. With this much slack, in nanoseconds, it looks
// when the kernel is awake anyway.
const slack = "4000000"

// calm gives all threads that slack; those that come later have it from their parents. Who may
// not do that goes without.
func calm() {
	threads, _ := filepath.Glob("/proc/self/task/*")
	for _, thread := range threads {
		own := filepath.Join("/proc", filepath.Base(thread), "timerslack_ns")
		os.WriteFile(own, []byte(slack), 0)
	}
}
