package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/admin"
	"github.com/credfree/credfree/broker/recent"
)

func watchCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "watch",
		Usage: "print the issuances of a running broker as they happen, one line each",
		Flags: append(append(adminFlags(), filterFlags()...),
			&cli.IntFlag{Name: "last", Usage: "begin with the last `N` that are remembered"},
			&cli.BoolFlag{Name: "json", Usage: "print each as a line of JSON"},
		),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			query, err := filterOf(c)
			if err != nil {
				return err
			}
			if last := c.Int("last"); last < 0 {
				return fail(exitUsage, fmt.Errorf("%d issuances cannot be printed", last), "--last is how many to begin with; without it only new ones are printed")
			}
			client, err := adminOf(c)
			if err != nil {
				return err
			}
			// Whoever reads may stop reading, as head does: that is no failure.
			signal.Ignore(syscall.SIGPIPE)
			w := &watcher{client: client, query: query, out: std.out, err: std.err, json: c.Bool("json"), colour: inColour(std.out)}
			if isTerminal(std.out) {
				w.width = lineWidth
			}
			err = w.run(c.Context, c.Int("last"))
			if errors.Is(err, syscall.EPIPE) || c.Err() != nil {
				return nil
			}
			return err
		},
	}
}

// watcher prints what a stream brings, and goes on with the next stream when
// one breaks.
type watcher struct {
	client       *adminClient
	query        url.Values
	out, err     io.Writer
	json, colour bool
	width        int    // of a line; 0: as long as it is
	last         string // id of the last event; "" before the first
}

// watchPauses are between attempts to reach a broker that was reached before.
var watchPauses = [...]time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second}

func (w *watcher) run(ctx context.Context, last int) error {
	if err := w.before(ctx, last); err != nil {
		return err
	}
	reached := false
	for attempt := 0; ; attempt++ {
		lines, err := w.open(ctx)
		if err != nil && !reached {
			return err
		}
		if _, refused := errors.AsType[*refusedByAdmin](err); refused {
			return err
		}
		if err == nil {
			if attempt > 0 {
				fmt.Fprintln(w.err, "the broker answers again")
			}
			reached, attempt = true, 0
			if err := w.follow(lines); err != nil {
				return err
			}
			if ctx.Err() == nil {
				fmt.Fprintln(w.err, "the broker does not answer any more; trying again")
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(watchPauses[min(attempt, len(watchPauses)-1)]):
		}
	}
}

// before prints those that are remembered, the oldest first.
func (w *watcher) before(ctx context.Context, last int) error {
	if last <= 0 {
		return nil
	}
	query := url.Values{"limit": {strconv.Itoa(min(last, recent.MaxIssuances))}}
	maps.Copy(query, w.query)
	var list admin.Issuances
	if err := w.client.ask(ctx, http.MethodGet, admin.IssuancesPath+"?"+query.Encode(), nil, &list); err != nil {
		return err
	}
	for _, i := range slices.Backward(list.Issuances) {
		if err := w.print(&i); err != nil {
			return err
		}
	}
	seen := list.Held.Seen // what matches up to there was listed, or is not asked for
	if len(list.Issuances) > 0 {
		seen = max(seen, list.Issuances[0].Number)
	}
	w.last = admin.EventID(seen, list.Held.Since)
	return nil
}

// open begins a stream where the last one ended.
func (w *watcher) open(ctx context.Context) (io.ReadCloser, error) {
	header := http.Header{"Accept": {"text/event-stream"}}
	if w.last != "" {
		header.Set("Last-Event-ID", w.last)
	}
	resp, err := w.client.send(ctx, http.MethodGet, admin.EventsPath+"?"+w.query.Encode(), nil, header)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// follow prints events until the stream ends. Its error is that of printing.
func (w *watcher) follow(stream io.ReadCloser) error {
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	event := ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "id":
			w.last = value
		case field == "event":
			event = value
		case field == "data" && event == "missed":
			fmt.Fprintln(w.err, "more happened than could be shown:", value, "are missing here, and stand in the audit log")
		case field == "data":
			var i recent.Issuance
			if err := json.Unmarshal([]byte(value), &i); err != nil {
				return fail(exitError, errors.New("an event is no issuance"), "is it a broker of this version?")
			}
			if err := w.print(&i); err != nil {
				return err
			}
		}
	}
	return nil // why it ended does not matter: the next one tells
}

func (w *watcher) print(i *recent.Issuance) error {
	line := issuanceLine(i, w.colour, w.width)
	if w.json {
		text, err := json.Marshal(i)
		if err != nil {
			return err
		}
		line = string(text)
	}
	_, err := fmt.Fprintln(w.out, line)
	return err
}

// lineWidth is that of a terminal that nobody has made wider.
const lineWidth = 80

// issuanceLine is an issuance in width columns, if that is not 0: when, the decision,
// the agent, how the token was come by, how long it took, and for whom, why not and
// what; or that a token was only inspected.
func issuanceLine(i *recent.Issuance, colour bool, width int) string {
	decision := visible(fmt.Sprintf("%-5s", i.Decision))
	if colour {
		decision = colours[i.Decision] + decision + "\x1b[0m"
	}
	rest := strings.ReplaceAll(i.Scope(), "https://", "")
	if user := i.User(); user != "" {
		id := user[strings.LastIndexByte(user, '/')+1:]
		rest = "@" + id[:min(8, len(id))] + " " + rest
	}
	if i.Reason != "" {
		rest = reasonOf(i) + " " + rest
	}
	if i.Inspected() {
		rest = "inspected " + rest
	}
	rest = strings.TrimSpace(rest)
	agent := dash(i.Agent)
	if width > 0 {
		agent = cut(agent, 12)
	}
	head := fmt.Sprintf(" %-12s %-6s %8s ", agent, dash(i.Cache), fmt.Sprintf("%.2f ms", float64(i.Took.Microseconds())/1000))
	if width > 0 {
		used := len("15:04:05 ") + 5 + len([]rune(head))
		rest = cut(rest, max(width-used, 10))
	}
	return i.Start.UTC().Format(time.TimeOnly) + " " + decision + visible(head+rest)
}

// reasonOf is why not, or what audit mode alone has overlooked.
func reasonOf(i *recent.Issuance) string {
	if i.Audited && i.Decision == recent.Allow {
		return "only audited: " + i.Reason
	}
	return i.Reason
}

var colours = map[string]string{recent.Allow: "\x1b[32m", recent.Deny: "\x1b[33m", recent.Fail: "\x1b[31m"}

// cut makes a text fit, and says where something is missing.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// inColour: only for people at a terminal, who have not said no.
func inColour(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
