package main

import (
	"fmt"
	"os"
	"time"
)

// info, problem and fatal write lines of the shape that kube-proxy's own have.
func info(format string, values ...any)    { line("I", format, values...) }
func problem(format string, values ...any) { line("E", format, values...) }

func fatal(format string, values ...any) {
	line("E", format, values...)
	os.Exit(1)
}

func line(severity, format string, values ...any) {
	now := time.Now().Format("0102 15:04:05.000000")
	text := fmt.Sprintf(format, values...)
	fmt.Fprintf(os.Stderr, "%s%s %7d stand_in.go:1] %s\n", severity, now, os.Getpid(), text)
}
