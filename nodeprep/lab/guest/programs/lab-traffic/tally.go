package main

import (
	"encoding/json"
	"math"
	"time"
)

const (
	pending = iota
	succeeded
	failed
)

const (
	toldFailures = 20
	// Latencies are counted in tenths of a millisecond: the summary is as exact as that, and
	// costs the same however long the load has run.
	latencyUnit = 100 * time.Microsecond
)

// tally is what became of each connection, by the order in which they were begun.
type tally struct {
	to        string
	rate      float64
	start     time.Time
	attempts  []attempt
	reasons   map[int]string
	latencies []int
	late      time.Duration
}

type attempt struct {
	at     time.Duration
	became byte
}

type failure struct {
	At    float64 `json:"at"`
	Error string  `json:"error"`
}

type latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// summary is what is written: times in seconds since the start, latencies in milliseconds.
// LateMs says how far the schedule itself fell behind: above the rate's own step, it is this
// machine that was busy.
type summary struct {
	To           string    `json:"to"`
	Rate         float64   `json:"rate"`
	Seconds      float64   `json:"seconds"`
	Done         bool      `json:"done"`
	Attempted    int       `json:"attempted"`
	Pending      int       `json:"pending"`
	Failed       int       `json:"failed"`
	FirstFailure *float64  `json:"first_failure"`
	LastFailure  *float64  `json:"last_failure"`
	LongestGap   float64   `json:"longest_gap"`
	Failures     []failure `json:"failures"`
	LatencyMs    latency   `json:"latency_ms"`
	LateMs       float64   `json:"late_ms"`
}

func newTally(to string, rate float64, timeout time.Duration) *tally {
	return &tally{
		to: to, rate: rate, start: time.Now(),
		reasons:   map[int]string{},
		latencies: make([]int, timeout/latencyUnit+1),
	}
}

// begin notes an attempt and returns its number.
func (t *tally) begin(due time.Duration) int {
	at := time.Since(t.start)
	t.attempts = append(t.attempts, attempt{at: at})
	if late := at - due; late > t.late {
		t.late = late
	}
	return len(t.attempts) - 1
}

// end notes what became of an attempt.
func (t *tally) end(number int, took time.Duration, _ string, err error) {
	if err != nil {
		t.attempts[number].became = failed
		t.reasons[number] = err.Error()
		return
	}
	t.attempts[number].became = succeeded
	slot := int(took / latencyUnit)
	if slot >= len(t.latencies) {
		slot = len(t.latencies) - 1
	}
	t.latencies[slot]++
}

// summary returns the tally as JSON, with the attempts still under way left aside.
func (t *tally) summary(done bool) []byte {
	said := summary{
		To: t.to, Rate: t.rate, Done: done, Attempted: len(t.attempts),
		Seconds:    seconds(time.Since(t.start)),
		LongestGap: t.longestGap(),
		Failures:   []failure{},
		LatencyMs:  latency{P50: t.percentile(0.50), P99: t.percentile(0.99), Max: t.percentile(1)},
		LateMs:     milliseconds(t.late),
	}
	for number, attempt := range t.attempts {
		switch attempt.became {
		case pending:
			said.Pending++
		case failed:
			said.fail(seconds(attempt.at), t.reasons[number])
		}
	}
	text, _ := json.MarshalIndent(said, "", "  ")
	return append(text, '\n')
}

func (s *summary) fail(at float64, reason string) {
	s.Failed++
	if s.FirstFailure == nil {
		s.FirstFailure = &at
	}
	s.LastFailure = &at
	if len(s.Failures) < toldFailures {
		s.Failures = append(s.Failures, failure{At: at, Error: reason})
	}
}

// longestGap returns the longest time, in seconds, from the last success before a run of failures
// to the first one after it. A run at the beginning counts from the start, one at the end up to
// its last failure.
func (t *tally) longestGap() float64 {
	var longest, success time.Duration
	broken := false
	for _, attempt := range t.attempts {
		if attempt.became == pending {
			continue
		}
		if (broken || attempt.became == failed) && attempt.at-success > longest {
			longest = attempt.at - success
		}
		broken = attempt.became == failed
		if !broken {
			success = attempt.at
		}
	}
	return seconds(longest)
}

// percentile returns a latency in milliseconds; 1 is the longest.
func (t *tally) percentile(part float64) float64 {
	total := 0
	for _, count := range t.latencies {
		total += count
	}
	rank := int(math.Ceil(part * float64(total)))
	for slot, count := range t.latencies {
		if rank -= count; rank <= 0 && count > 0 {
			return milliseconds(time.Duration(slot) * latencyUnit)
		}
	}
	return 0
}

func seconds(duration time.Duration) float64 {
	return math.Round(duration.Seconds()*1e3) / 1e3
}

func milliseconds(duration time.Duration) float64 {
	return math.Round(float64(duration)/float64(time.Millisecond)*10) / 10
}
