package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// rules are the paths that decisions about one agent name.
type rules struct{ agent, expires, blocked, limits, identities, mode, user, rawToken, perMinute, usersPerMinute string }

var agentForm = fieldsOf(
	optional("owner", anyText, "Whom to ask about the agent: an e-mail address or the name of a team."),
	optional("expires", matching(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`), "Last day on which the agent works, in UTC, as YYYY-MM-DD."),
	optional("blocked", trueFalse, "true: the agent gets nothing, whatever else stands here."),
	optional("mode", mode, "Mode of this agent, when it is not that of the file."),
	optional("identity", reference, "Identity of a request that names none."),
	optional("identities", list(reference), "Identities that a request may choose among."),
	optional("callers", list(callerForm), "Ways to recognise the agent; any of them is enough."),
	optional("allow", allowForm, "What the agent may have for itself."),
	optional("onBehalfOf", onBehalfOfForm, "What the agent may do on behalf of users; nothing when absent."),
	optional("rawToken", form{Type: "boolean", Default: true}, "false: no token leaves the broker; the agent can only call through it."),
	optional("limits", limitsForm, "How often the agent may ask."),
	optional("advertise", matching(durationForm.String()), "Longest lifetime that the agent is told, 5m to 24h, so that it asks again earlier."),
)

// agent reads one agent. Its callers go to claims, which sees all agents.
func (r *reader) agent(e entry, p *Policy, claims *claims) *Agent {
	path := e.value.path
	a := &Agent{Name: e.name, Audit: p.Audit, RawToken: true, policy: p, rules: rules{
		agent: path, expires: path + ".expires", blocked: path + ".blocked", limits: path + ".limits",
		identities: path + ".identity", mode: "mode", user: path + ".onBehalfOf", rawToken: path + ".rawToken",
		perMinute: path + ".limits.perMinute", usersPerMinute: path + ".limits.onBehalfOf.perMinute",
	}}
	fields, ok := r.fields(e.value, &agentForm)
	if !ok {
		return a
	}
	r.accountability(a, e.key, fields, p.Strict)
	r.agentIdentities(a, e.key, fields)
	for _, name := range a.Identities {
		a.choices = append(a.choices, r.choices[name])
	}
	for _, at := range r.items(fields["callers"]) {
		if caller, places, ok := r.caller(at, p.Strict); ok {
			a.Callers = append(a.Callers, caller)
			claims.add(a, caller, places)
		}
	}
	if fields["callers"].empty() {
		r.warning(e.key, "the agent can never be matched: it has no callers", "add callers: a socket, or tcp with uids or a keyFile")
	}
	r.rights(a, e.key, fields, p)
	r.narrow(a, e.key, fields)
	return a
}

// accountability reads who answers for the agent, until when, and what holds
// it back.
func (r *reader) accountability(a *Agent, key place, fields map[string]place, strict bool) {
	a.Owner = r.owner(fields["owner"])
	a.Expires = r.expires(fields["expires"])
	a.Blocked, _ = r.boolean(fields["blocked"])
	if at := fields["mode"]; at.present() {
		a.Audit, a.rules.mode = r.mode(at, a.Audit), at.path
	}
	a.Limits = r.limits(fields["limits"])
	a.Advertise = r.duration(fields["advertise"], minAdvertise, maxAdvertise, "5m to 24h")
	report, prefix := r.warning, ""
	if strict {
		report, prefix = r.problem, "strict: "
	}
	if !fields["owner"].present() {
		report(key, prefix+"nobody answers for the agent: it has no owner", "add owner: <e-mail address or name of a team>")
	}
	if !fields["expires"].present() {
		report(key, prefix+"the agent never expires", "add expires: <last day on which it is wanted, YYYY-MM-DD>")
	}
}

// rights reads what the agent may have, for itself and for users.
func (r *reader) rights(a *Agent, key place, fields map[string]place, p *Policy) {
	a.forItself = r.allow(fields["allow"], a.rules.agent+".allow", p)
	a.Scopes, a.APIs = a.forItself.scopes, a.forItself.apis
	a.forUser = allowance{rule: a.rules.user + ".allow", list: a.rules.user + ".allow.scopes", cloud: &p.Cloud}
	if at := fields["onBehalfOf"]; at.present() {
		r.onBehalfOf(a, at, p)
	} else if len(a.Scopes) == 0 {
		r.warning(key, "the agent may have no scope at all", "add allow: {scopes: [https://graph.microsoft.com/.default]}, with the resource that it needs")
	}
	if at := fields["rawToken"]; at.present() {
		a.RawToken, _ = r.boolean(at)
	}
	r.warnRefused(a, fields, p)
}

func unprintable(c rune) bool { return !unicode.IsPrint(c) }

func (r *reader) owner(at place) string {
	owner, ok := r.text(at)
	if ok && (len(owner) > 256 || strings.ContainsFunc(owner, unprintable)) {
		r.problem(at, "the owner is longer than 256 bytes or does not print", "write an e-mail address or the name of a team")
	}
	return owner
}

// expires returns the first instant after the day that the file names.
func (r *reader) expires(at place) time.Time {
	if !at.present() {
		return time.Time{}
	}
	// Not text: YAML reads a date without quotation marks as a time.
	if !r.plain(at, yaml.ScalarNode) || !r.literal(at) {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, at.node.Value)
	// The last day of the year 0 would end at the zero time, which is never.
	if err != nil || day.Year() < 2000 {
		r.problem(at, quote(at.node.Value)+" is not a date", "write the last day on which the agent works, in UTC, as YYYY-MM-DD")
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// agentIdentities reads identity, the default, and identities, the choice.
func (r *reader) agentIdentities(a *Agent, at place, fields map[string]place) {
	one, many := fields["identity"], fields["identities"]
	if one.present() {
		if a.Default, _ = r.reference(one, "identity", r.identities); a.Default != "" {
			r.shares(a, a.Default, one)
		}
	}
	for _, item := range r.items(many) {
		name, ok := r.reference(item, "identity", r.identities)
		switch {
		case !ok:
		case slices.Contains(a.Identities, name):
			r.problem(item, quote(name)+" is listed twice", "remove one of the two")
		default:
			a.Identities = append(a.Identities, name)
			r.shares(a, name, item)
		}
	}
	if many.present() {
		a.rules.identities = many.path
	}
	switch {
	case !one.present() && many.empty():
		r.problem(at, "the agent has no identity", "add identity: <one of the identities>")
	case many.empty():
		a.Identities = []string{a.Default}
	case !one.present() && len(a.Identities) == 1:
		a.Default = a.Identities[0]
	case a.Default != "" && len(a.Identities) > 0 && !slices.Contains(a.Identities, a.Default):
		r.problem(one, quote(a.Default)+" is not one of the agent's identities", fmt.Sprintf("add it to the list on line %d, or remove that list", many.node.Line))
	}
}
