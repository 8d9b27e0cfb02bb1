package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/client"
)

func tokenCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "ask the broker for an access token and print it",
		Flags: append(tokenFlags(), &cli.StringFlag{Name: "format", Usage: "`FORMAT` of the result: token or json", Value: "token"}),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "scope"); err != nil {
				return err
			}
			format := c.String("format")
			if format != "token" && format != "json" {
				return fail(exitUsage, fmt.Errorf("format %q is neither token nor json", format), "without --format it is token")
			}
			token, err := askForToken(c)
			if err != nil {
				return err
			}
			if format == "json" {
				return json.NewEncoder(std.out).Encode(token)
			}
			_, err = fmt.Fprintln(std.out, token.AccessToken)
			return err
		},
	}
}

// tokenFlags say which broker is asked, and for what: askForToken reads them.
func tokenFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "scope", Usage: "`SCOPE` to ask for, like https://graph.microsoft.com/.default"},
		&cli.StringFlag{Name: "url", Usage: "`URL` of the broker", Value: client.DefaultURL, EnvVars: []string{"CREDFREE_URL"}},
		&cli.StringFlag{Name: "socket", Usage: "the agent's unix socket at `PATH`, instead of TCP", EnvVars: []string{"CREDFREE_SOCKET"}},
		&cli.StringFlag{Name: "key-file", Usage: "`FILE` that holds the agent's key", EnvVars: []string{"CREDFREE_KEY_FILE"}},
		&cli.StringFlag{Name: "agent", Usage: "`NAME` the broker should know this caller by, compared only"},
		&cli.StringFlag{Name: "identity", Usage: "`NAME` of the identity to act as"},
		&cli.StringFlag{Name: "claims", Usage: "claims challenge to satisfy, as `JSON`"},
		&cli.StringFlag{Name: "user-token", Usage: "act for the user whose access token is in `FILE`, or - for standard input"},
	}
}

// askForToken asks the broker. Its error has the exit code and the hints.
func askForToken(c *cli.Context) (client.Token, error) {
	if given(c, "url", "CREDFREE_URL") && given(c, "socket", "CREDFREE_SOCKET") {
		return client.Token{}, fail(exitUsage, errors.New("--url and --socket exclude each other"), "one is the broker's address over TCP, the other the agent's own socket")
	}
	socket := c.String("socket")
	if given(c, "url", "CREDFREE_URL") { // whatever the environment says
		socket = ""
	}
	asker, err := client.New(client.Config{URL: c.String("url"), Socket: socket, KeyFile: c.String("key-file")})
	if err != nil {
		return client.Token{}, fail(exitUsage, err, "give the address for agents with --url, as http://127.0.0.1:7400; a unix socket with --socket")
	}
	req := client.TokenRequest{Scope: c.String("scope"), Agent: c.String("agent"), Identity: c.String("identity"), Claims: c.String("claims")}
	if path := c.String("user-token"); path != "" {
		if req.UserToken, err = readUserToken(c, path); err != nil {
			return client.Token{}, err
		}
	}
	token, err := asker.Token(c.Context, req)
	if err != nil {
		return client.Token{}, refused(err)
	}
	return token, nil
}

// given reports whether a flag was written out, not taken from its variable.
func given(c *cli.Context, flag, variable string) bool {
	return c.IsSet(flag) && c.String(flag) != os.Getenv(variable)
}

// refused gives a broker's refusal its exit code and its hints.
func refused(err error) error {
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return fail(exitUnreachable, err, "start one with: credfree serve --config FILE, or say where it is with --url or --socket")
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fail(exitError, err, "name a file with the agent's key that this user may read, with --key-file")
	}
	var refusal *client.Error
	if !errors.As(err, &refusal) {
		return err
	}
	hints := []string{refusal.Hint}
	if refusal.IssuanceID != "" {
		hints = append(hints, "the operator finds this as issuance "+refusal.IssuanceID)
	}
	if refusal.Claims != "" {
		hints = append(hints, "the user has to satisfy the claims challenge "+refusal.Claims)
	}
	code := exitError
	switch {
	case refusal.RefusedBy == client.ByPolicy:
		code = exitDenied
	case refusal.RefusedBy == client.ByEntra, refusal.Status == http.StatusTooManyRequests:
		code = exitEntra
	}
	return fail(code, err, hints...)
}
