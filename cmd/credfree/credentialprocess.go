package main

import (
	"encoding/json"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/client"
)

func credentialProcessCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "credential-process",
		Usage: "ask the broker for an access token and print it for a program that runs a command for its credentials",
		Flags: append(tokenFlags(), formatFlag("kubectl", "google")),
		Action: func(c *cli.Context) error {
			if err := flagsOnly(c, "scope"); err != nil {
				return err
			}
			format, err := formatOf(c, "kubectl", "google")
			if err != nil {
				return err
			}
			asked := time.Now() // before, so that it never claims more time than there is
			token, err := askForToken(c)
			if err != nil {
				return err
			}
			expires := asked.Add(time.Duration(token.ExpiresIn) * time.Second)
			if format == "google" {
				return json.NewEncoder(std.out).Encode(googleCredential(token, expires))
			}
			return json.NewEncoder(std.out).Encode(kubectlCredential(token, expires, os.Getenv("KUBERNETES_EXEC_INFO")))
		},
	}
}

// execCredential is what kubectl and other programs over client-go read.
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
type execCredential struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Status     execStatus `json:"status"`
}

type execStatus struct {
	ExpirationTimestamp string `json:"expirationTimestamp"` // RFC 3339
	Token               string `json:"token"`
}

// kubectlCredential answers in the version that info, the program's own
// ExecCredential, is of: any other is refused there.
func kubectlCredential(token client.Token, expires time.Time, info string) execCredential {
	const version, before = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
	c := execCredential{APIVersion: version, Kind: "ExecCredential",
		Status: execStatus{ExpirationTimestamp: expires.UTC().Format(time.RFC3339), Token: token.AccessToken}}
	var asked execCredential
	if json.Unmarshal([]byte(info), &asked) == nil && asked.APIVersion == before {
		c.APIVersion = before
	}
	return c
}

// executableCredential is what Google's libraries read of an executable-sourced
// credential. A failure is an exit code: what else they would read on standard
// output of one says less.
// https://google.aip.dev/auth/4117
type executableCredential struct {
	Version        int    `json:"version"`
	Success        bool   `json:"success"`
	TokenType      string `json:"token_type"`
	IDToken        string `json:"id_token"`
	ExpirationTime int64  `json:"expiration_time"` // seconds since 1970
}

func googleCredential(token client.Token, expires time.Time) executableCredential {
	return executableCredential{Version: 1, Success: true, TokenType: "urn:ietf:params:oauth:token-type:jwt",
		IDToken: token.AccessToken, ExpirationTime: expires.Unix()}
}
