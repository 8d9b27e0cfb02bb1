package admin

import (
	"fmt"
	"time"

	"github.com/credfree/credfree/broker/recent"
)

// plot is an hour by the minute, in a drawing of 600 by 100.
type plot struct {
	Title   string
	Summary string // what it shows, in words
	Most    string // what the top of the drawing stands for
	Empty   string // why there is nothing to see; "" when there is
	Bars    []column
	Legend  []legend
}

// column is a rectangle of a plot.
type column struct{ X, Y, Width, Height, Class, Title string }

type legend struct{ Class, Text string }

const (
	plotWidth  = 600.0
	plotHeight = 100.0
	gap        = 2.0
)

// layer is one of the values that are stacked in a plot.
type layer struct {
	class, name string
	value       func(recent.Minute) float64
	text        func(float64) string
}

func plots(minutes []recent.Minute) []plot {
	count := func(n func(recent.Minute) int) func(recent.Minute) float64 {
		return func(m recent.Minute) float64 { return float64(n(m)) }
	}
	whole := func(v float64) string { return fmt.Sprintf("%.0f", v) }
	time := func(v float64) string { return duration(time.Duration(v)) }
	var sum recent.Minute
	for _, m := range minutes {
		sum.Allowed, sum.Denied, sum.Failed, sum.Hits = sum.Allowed+m.Allowed, sum.Denied+m.Denied, sum.Failed+m.Failed, sum.Hits+m.Hits
		sum.Exchanges, sum.Errors, sum.Throttled = sum.Exchanges+m.Exchanges, sum.Errors+m.Errors, sum.Throttled+m.Throttled
		sum.Refreshes, sum.RefreshesFailed = sum.Refreshes+m.Refreshes, sum.RefreshesFailed+m.RefreshesFailed
		sum.Inspected += m.Inspected
		sum.Slowest = max(sum.Slowest, m.Slowest)
	}
	all := []plot{
		stack("Requests", requestWords(sum), "no requests", " a minute at most", minutes,
			layer{"allow", "allowed", count(func(m recent.Minute) int { return m.Allowed }), whole},
			layer{"deny", "denied", count(func(m recent.Minute) int { return m.Denied }), whole},
			layer{"fail", "failed", count(func(m recent.Minute) int { return m.Failed }), whole},
			layer{"other", "inspected", count(func(m recent.Minute) int { return m.Inspected }), whole}),
		stack("Cache", cacheWords(sum), "no tokens handed out", " a minute at most", minutes,
			layer{"hit", "from the cache", count(func(m recent.Minute) int { return m.Hits }), whole},
			layer{"other", "fetched or joined", count(func(m recent.Minute) int { return m.Allowed - m.Hits }), whole}),
		stack("Time of exchanges", fmt.Sprintf("exchanges: %d, in the background: %d, the slowest %s", sum.Exchanges, sum.Refreshes, duration(sum.Slowest)), "no exchanges", " at most", minutes,
			layer{"hit", "mean", func(m recent.Minute) float64 { return float64(m.Mean) }, time},
			layer{"other", "up to the slowest", func(m recent.Minute) float64 { return float64(m.Slowest - m.Mean) }, time}),
		stack("Entra's troubles", fmt.Sprintf("errors: %d, of which throttling: %d; tokens not refreshed: %d", sum.Errors, sum.Throttled, sum.RefreshesFailed), "no errors", " a minute at most", minutes,
			layer{"deny", "throttled", count(func(m recent.Minute) int { return m.Throttled }), whole},
			layer{"fail", "other errors", count(func(m recent.Minute) int { return m.Errors - m.Throttled }), whole}),
	}
	return all
}

func requestWords(sum recent.Minute) string {
	words := fmt.Sprintf("%d allowed, %d denied, %d failed", sum.Allowed, sum.Denied, sum.Failed)
	if sum.Inspected > 0 {
		words += fmt.Sprintf(", %d inspected", sum.Inspected)
	}
	return words
}

func cacheWords(sum recent.Minute) string {
	if sum.Allowed == 0 {
		return "nothing handed out"
	}
	return fmt.Sprintf("%d of %d tokens from the cache (%.0f %%)", sum.Hits, sum.Allowed, 100*float64(sum.Hits)/float64(sum.Allowed))
}

// stack stacks layers, minute by minute.
func stack(title, summary, empty, unit string, minutes []recent.Minute, layers ...layer) plot {
	p := plot{Title: title, Summary: summary}
	most := 0.0
	for _, m := range minutes {
		sum := 0.0
		for _, l := range layers {
			sum += l.value(m)
		}
		most = max(most, sum)
	}
	for _, l := range layers {
		p.Legend = append(p.Legend, legend{l.class, l.name})
	}
	if most == 0 {
		p.Empty = empty + " in the last hour"
		return p
	}
	p.Most = layers[0].text(most) + unit
	step := plotWidth / float64(len(minutes))
	for i, m := range minutes {
		below := 0.0
		for _, l := range layers {
			value := l.value(m)
			if value <= 0 {
				continue
			}
			height := plotHeight * value / most
			p.Bars = append(p.Bars, column{
				X: fmt.Sprintf("%.1f", float64(i)*step), Y: fmt.Sprintf("%.1f", plotHeight-below-height),
				Width: fmt.Sprintf("%.1f", step-gap), Height: fmt.Sprintf("%.1f", height), Class: l.class,
				Title: m.Start.Format("15:04") + " UTC: " + l.text(value) + " " + l.name,
			})
			below += height
		}
	}
	return p
}
