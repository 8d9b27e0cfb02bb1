package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/admin"
)

const defaultAdminURL = "http://127.0.0.1:7401"

func healthcheckCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "healthcheck",
		Usage: "ask a broker whether it is ready; for probes without curl",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Usage: "`URL` of the broker's admin listener", Value: defaultAdminURL, EnvVars: []string{"CREDFREE_ADMIN_URL"}},
			&cli.BoolFlag{Name: "live", Usage: "ask only whether it runs"},
			&cli.DurationFlag{Name: "timeout", Usage: "how long to wait for the answer", Value: 3 * time.Second},
			&cli.DurationFlag{Name: "wait", Usage: "how long to go on asking a broker that is not ready yet"},
		},
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c); err != nil {
				return err
			}
			path := "/readyz"
			if c.Bool("live") {
				path = "/healthz"
			}
			return untilReady(c, func() error { return healthcheck(c, std, strings.TrimRight(c.String("url"), "/")+path) })
		},
	}
}

// askAgain is how long a broker that is not ready is left alone.
const askAgain = 100 * time.Millisecond

// untilReady asks until the answer is good, for as long as --wait says.
func untilReady(c *cli.Context, ask func() error) error {
	for deadline := time.Now().Add(c.Duration("wait")); ; {
		err := ask()
		f, _ := errors.AsType[*failure](err)
		if err == nil || f != nil && f.code == exitUsage || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-c.Done():
			return err
		case <-time.After(askAgain):
		}
	}
}

func healthcheck(c *cli.Context, std stdio, url string) error {
	req, err := http.NewRequestWithContext(c.Context, http.MethodGet, url, nil)
	if err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https" || req.URL.Host == "" {
		return fail(exitUsage, fmt.Errorf("URL %q is not one like %s", c.String("url"), defaultAdminURL), "give the address for operators, with its scheme")
	}
	// A probe asks this host, whatever the environment says about proxies.
	probe := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: c.Duration("timeout")}
	resp, err := probe.Do(req)
	if err != nil {
		return fail(exitUnreachable, fmt.Errorf("no broker answers: %w", err), "is credfree serve running, with its admin listener at "+c.String("url")+"?")
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fail(exitUnreachable, err)
	}
	if resp.StatusCode == http.StatusOK {
		_, err := fmt.Fprintln(std.out, "ok")
		return err
	}
	var state admin.State
	if json.Unmarshal(body, &state) != nil || len(state.Parts) == 0 {
		return fail(exitError, fmt.Errorf("the answer has status %d and is not that of a broker's admin listener", resp.StatusCode),
			"is "+c.String("url")+" the address for operators? serve --admin-listen says it, and without that it is "+defaultAdminURL+"; agents have another")
	}
	return notReady(state)
}

func notReady(state admin.State) error {
	var problems []error
	var hints []string
	for _, name := range slices.Sorted(maps.Keys(state.Parts)) {
		if part := state.Parts[name]; !part.OK && !part.ReportOnly {
			problems = append(problems, fmt.Errorf("%s: %s", name, part.Error))
			hints = append(hints, part.Hint)
		}
	}
	return fail(exitError, errors.Join(problems...), hints...)
}
