package broker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/credfree/credfree/broker"
	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// Calls that are open end with what allowed them, and go on when something else
// changes: another user is blocked, say.
func TestReloadEndsOpenCalls(t *testing.T) {
	const (
		apis  = "apis: {mail: {baseURL: https://graph.microsoft.com/v1.0, scopes: [" + mailRead + "]}}"
		other = "11111111-0000-4000-8000-00000000000f"
	)
	rules := func(more string) string {
		return apis + strings.Replace(assistant(more), "allow: {scopes: ["+userRead+", "+mailRead+"]}", "allow: {apis: [mail]}", 1)
	}
	before := rules("")
	block := func(object string) string {
		return before + "blocked: {users: [" + entratest.DemoTenantID + "/" + object + "]}\n"
	}
	for name, test := range map[string]struct {
		after string
		want  policy.Reason // "": it goes on; "another": it would be another call
	}{
		"nothing":         {before, ""},
		"another's block": {block(other), ""},
		"the user":        {block(entratest.DemoUserID), policy.UserBlocked},
		"the agent":       {rules("    blocked: true\n"), policy.AgentBlocked},
		"its end":         {rules("    expires: 2020-01-01\n"), policy.AgentExpired},
		"the right":       {strings.Replace(before, "apis: [mail]}", "scopes: ["+userRead+"]}", 1), policy.APINotAllowed},
		"the path":        {strings.Replace(before, mailRead+"]}}", mailRead+"], paths: [/users]}}", 1), policy.APIPathNotAllowed},
		"the address":     {strings.Replace(before, "graph.microsoft.com/v1.0", "gateway.contoso.com", 1), "another"},
		"the scopes":      {strings.Replace(before, "scopes: ["+mailRead, "scopes: ["+userRead, 1), "another"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, when := range []string{"while it is open", "before it is open"} {
				w := newWorld(t)
				w.use(t, before)
				issued, err := w.Issue(as(t, 10001), broker.Request{API: "mail", Method: "GET", Path: "/me", OnBehalfOf: true, UserToken: w.userToken(t, nil)})
				check(t, err)
				var ended []error
				open := func() func() { return w.While(issued, func(why error) { ended = append(ended, why) }) }
				if when == "before it is open" {
					w.use(t, test.after)
					defer open()()
				} else {
					stop := open()
					w.use(t, test.after)
					stop()
				}
				w.use(t, test.after) // no second time
				denied := &broker.Denied{}
				switch {
				case test.want == "" && len(ended) > 0, test.want != "" && len(ended) != 1:
					t.Errorf("%s: it was ended by %v, want %q", when, ended, test.want)
				case test.want == "":
				case errors.As(ended[0], &denied) != (test.want != "another"), denied.Reason != test.want && test.want != "another":
					t.Errorf("%s: it was ended because of %v, want %q", when, ended[0], test.want)
				}
			}
		})
	}
}

// A call that is over is not ended, and what is for no call is not watched.
func TestReloadLeavesWhatIsOver(t *testing.T) {
	w := newWorld(t)
	w.use(t, assistant(""))
	plain, err := w.ask(as(t, 10001), graph)
	check(t, err)
	w.use(t, "apis: {all: {baseURL: https://graph.microsoft.com/v1.0, scopes: ["+graph+"]}}"+strings.Replace(assistant(""), "allow: {", "allow: {apis: [all], ", 1))
	call, err := w.Issue(as(t, 10001), broker.Request{API: "all", Method: "GET", Path: "/"})
	check(t, err)
	for _, issued := range []broker.Issued{plain, call} {
		stop := w.While(issued, func(why error) { t.Errorf("it was ended: %v", why) })
		if issued.API.Name != "" {
			stop()
		}
	}
	w.use(t, assistant("    blocked: true\n"))
}
