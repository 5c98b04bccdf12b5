package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

const progressEvery = time.Second

// load makes new connections on a steady schedule and writes what became of them.
//
// The loop is open: each connection is made at its time whatever became of those before, and one
// whose time has passed is made at once, never left out.
func load(arguments []string) error {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	wanted := targetOf(flags)
	rate := flags.Float64("rate", 50, "new connections a second")
	seconds := flags.Float64("seconds", 0, "how long; 0: until told to end")
	until := flags.String("until", "", "end when this `FILE` is there")
	out := flags.String("out", "-", "`FILE` for the summary, rewritten every second")
	flags.Parse(arguments)
	target, err := wanted()
	if err != nil {
		return err
	}
	if *rate <= 0 {
		return fmt.Errorf("load needs a --rate above 0")
	}
	tally := newTally(target.to, *rate, target.patience)
	probes, err := newProbes(target, tally.end)
	if err != nil {
		return err
	}
	schedule(probes, tally, *out, ending(*seconds, *until))
	return replace(*out, tally.summary(true))
}

// ending returns a function that says whether the time to end has come.
func ending(seconds float64, until string) func(time.Duration) bool {
	stop := stopped()
	return func(passed time.Duration) bool {
		select {
		case <-stop:
			return true
		default:
		}
		if until != "" {
			if _, err := os.Stat(until); err == nil {
				return true
			}
		}
		return seconds > 0 && passed.Seconds() >= seconds
	}
}

// schedule makes the connections, and returns when the last of them has ended.
func schedule(probes *probes, tally *tally, out string, ended func(time.Duration) bool) {
	step := time.Duration(float64(time.Second) / tally.rate)
	written := tally.start
	for due := time.Duration(0); !ended(due); due += step {
		for time.Since(tally.start) < due {
			probes.wait(tally.start.Add(due))
		}
		probes.begin(tally.begin(due))
		// However late the schedule is, answers are heard: unread they would count as silence.
		probes.wait(time.Now())
		if out != "-" && time.Since(written) >= progressEvery {
			replace(out, tally.summary(false))
			written = time.Now()
		}
	}
	for len(probes.waiting) > 0 {
		probes.wait(time.Now().Add(lookEvery))
	}
}
