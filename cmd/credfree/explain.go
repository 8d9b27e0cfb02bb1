package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/localapi"
	"github.com/credfree/credfree/broker/policy"
)

func explainCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "say what the broker would decide, and by which rule",
		Flags: append([]cli.Flag{
			configFlag(),
			ceilingFlag(),
			&cli.StringFlag{Name: "agent", Usage: "`NAME` of the agent that asks"},
			&cli.StringFlag{Name: "scope", Usage: "`SCOPE` it asks for"},
			&cli.StringFlag{Name: "identity", Usage: "`NAME` of the identity it wants to act as"},
			&cli.StringFlag{Name: "api", Usage: "`NAME` of the API that it calls through the broker, instead of a scope"},
			&cli.StringFlag{Name: "method", Usage: "`METHOD` of that call", Value: http.MethodGet},
			&cli.StringFlag{Name: "path", Usage: "`PATH` of that call, below the API's base URL, as it is sent", Value: "/"},
			formatFlag("text", "json"),
		}, userFlags()...),
		Action: func(c *cli.Context) error {
			if err := askedOnce(c); err != nil {
				return err
			}
			format, err := formatOf(c, "text", "json")
			if err != nil {
				return err
			}
			p, _, err := readPolicy(c.String("config"), c.String("ceiling"))
			if err != nil {
				return err
			}
			explained, err := explain(c, p)
			if err != nil {
				return err
			}
			for _, value := range p.FromPod {
				explained.FromPod = append(explained.FromPod, said(value))
			}
			if format == "json" {
				err = encodeJSON(std.out, explained)
			} else {
				err = explained.print(std.out)
			}
			if err == nil && !explained.Allowed {
				return &failure{code: exitDenied, err: errSaid{}}
			}
			return err
		},
	}
}

// askedOnce refuses flags that are missing, and those that nothing would come of.
func askedOnce(c *cli.Context) error {
	call := c.IsSet("api")
	needed := []string{"config", "agent", "scope"}
	if call {
		needed = needed[:2]
	}
	if err := flagsOnly(c, needed...); err != nil {
		return err
	}
	switch {
	case call && c.IsSet("scope"):
		return fail(exitUsage, errors.New("--api and --scope exclude each other"), "a call is made with the scopes that the policy names for the API")
	case !call && (c.IsSet("method") || c.IsSet("path")):
		return fail(exitUsage, errors.New("--method and --path describe no call"), "add --api NAME instead of --scope")
	case call && !methodForm.MatchString(c.String("method")):
		return fail(exitUsage, fmt.Errorf("%q is no HTTP method", c.String("method")), "without --method it is GET")
	case call && c.String("path") != "" && !strings.HasPrefix(c.String("path"), "/"):
		return fail(exitUsage, fmt.Errorf("path %q does not begin with a slash", c.String("path")), "write what stands below the API's base URL: /users")
	}
	return nil
}

// methodForm is what an HTTP method may consist of (RFC 9110 §5.6.2).
var methodForm = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// explain asks the policy what serve would ask it. A user's token is verified
// as serve does, and only when the decision depends on it.
func explain(c *cli.Context, p *policy.Policy) (*explained, error) {
	name := c.String("agent")
	agent, ok := p.Agents[name]
	if !ok {
		return nil, fail(exitError, fmt.Errorf("the policy has no agent %q", name), "credfree check --config "+c.String("config")+" reads the same file")
	}
	if len(agent.Callers) == 0 {
		return nil, fail(exitDenied, fmt.Errorf("agent %s has no callers: nobody can be it", name), "add callers to agents."+name)
	}
	asked, err := userOf(c, p)
	if err != nil {
		return nil, err
	}
	request := policy.Request{
		Peer: callerOf(agent), Agent: name, Identity: c.String("identity"), Scope: c.String("scope"),
		OnBehalfOf: asked.onBehalfOf, User: asked.user, Raw: true, Now: time.Now(),
	}
	if name := c.String("api"); name != "" {
		path, _, _ := strings.Cut(c.String("path"), "?") // of a query, nothing is decided
		plain, problem, hint := localapi.ReadCall(c.String("method"), path)
		if problem != "" {
			return nil, fail(exitUsage, errors.New("the broker makes no such call: "+problem), hint)
		}
		request.API, request.Method, request.Path, request.Raw = name, c.String("method"), plain, false
	}
	explanation := p.Explain(request)
	if asked.token == "" || explanation.Decision.Reason != policy.UserUnverified {
		return newExplained(explanation, request.User), nil
	}
	user, refusal, err := verifyUser(c.Context, p, explanation.Decision, asked.token)
	if err != nil {
		return nil, err
	}
	if refusal != nil {
		return newExplained(refusedUser(explanation, refusal), nil), nil
	}
	request.User = user
	return newExplained(p.Explain(request), user), nil
}

// callerOf is a peer that the agent's first caller matches: explain asks about
// the agent, not about who could pass for it.
func callerOf(agent *policy.Agent) policy.Peer {
	caller := agent.Callers[0]
	peer := policy.Peer{Socket: caller.Socket, KeyFile: caller.KeyFile}
	if len(caller.UIDs) > 0 {
		peer.UID, peer.Known = caller.UIDs[0], true
	}
	return peer
}
