package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/admin"
)

// adminFlags say where the admin listener is, and who asks.
func adminFlags() []cli.Flag {
	return []cli.Flag{
		adminFlag(),
		&cli.StringFlag{Name: "admin-key-file", Usage: "`FILE` with the operator key, for who is neither root nor the broker's own user", EnvVars: []string{"CREDFREE_ADMIN_KEY_FILE"}},
	}
}

func adminFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "admin", Usage: "`URL` of the broker's admin listener", Value: "http://" + defaultAdminListen, EnvVars: []string{"CREDFREE_ADMIN_URL"}}
}

// adminClient asks an admin listener.
type adminClient struct {
	base    string
	key     string
	command string // that asks
}

func adminOf(c *cli.Context) (*adminClient, error) {
	client := &adminClient{base: strings.TrimRight(c.String("admin"), "/"), command: c.Command.Name}
	if path := c.String("admin-key-file"); path != "" {
		key, err := os.ReadFile(path)
		if err != nil {
			return nil, fail(exitError, fmt.Errorf("the operator key cannot be read: %w", err), "name the file that serve was given, with --admin-key-file")
		}
		client.key = strings.TrimSpace(string(key))
	}
	return client, nil
}

const adminTimeout = 10 * time.Second

// ask asks and reads the JSON of the answer.
func (a *adminClient) ask(ctx context.Context, method, path string, form url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := a.send(ctx, method, path, strings.NewReader(form.Encode()), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminBytes))
	if err != nil {
		return fail(exitUnreachable, errors.New("the admin listener's answer was cut off"), "ask again")
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fail(exitError, errors.New("the answer is not that of an admin listener"), "is "+a.base+" its address? see --admin")
	}
	return nil
}

// maxAdminBytes bounds an answer: a thousand issuances with all their texts.
const maxAdminBytes = 8 << 20

// send sends one request. An answer other than 200 is an error.
func (a *adminClient) send(ctx context.Context, method, path string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return nil, fail(exitUsage, err, "give the address as http://127.0.0.1:7401 with --admin")
	}
	maps.Copy(req.Header, header)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if a.key != "" {
		req.Header.Set("Authorization", "Bearer "+a.key)
	}
	// The listener is this machine's own, and behind no proxy.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, fail(exitUnreachable, fmt.Errorf("the admin listener cannot be reached: %w", errors.Unwrap(err)), "is credfree serve running? name its address with --admin")
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fail(exitUnreachable, errors.New("the admin listener's answer was cut off"), "ask again")
	}
	return nil, &refusedByAdmin{resp.StatusCode, a.refused(method, resp.StatusCode, text)}
}

// refused is the error for an answer that is none.
func (a *adminClient) refused(method string, status int, body []byte) error {
	problem := admin.Problem{Hint: "is " + a.base + " the address of an admin listener? see --admin"}
	if json.Unmarshal(body, &problem) != nil || problem.Error == "" {
		problem.Error = strings.TrimSpace(string(body))
	}
	code := exitError
	if status == http.StatusBadRequest {
		code = exitUsage
		if method == http.MethodGet { // its hints name parameters, and people have flags
			problem.Hint = "credfree " + a.command + " --help lists the flags"
		}
	}
	return fail(code, fmt.Errorf("the admin listener refused: %s", problem.Error), problem.Hint)
}

// refusedByAdmin is an answer other than 200.
type refusedByAdmin struct {
	status int
	error
}

func (r *refusedByAdmin) Unwrap() error { return r.error }
