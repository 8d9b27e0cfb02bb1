package review

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	textWidth  = 100
	labelWidth = 12
	scopeWidth = 46
)

// WriteText writes the report for people, in lines of at most 100 columns.
func (r *Report) WriteText(w io.Writer) error {
	var p page
	p.wrapped(0, 2, r.headline())
	for i := range r.Agents {
		p.agent(&r.Agents[i], r.Revision != "")
	}
	p.agentless(r)
	_, err := w.Write(p.Bytes())
	return err
}

func (r *Report) headline() string {
	line := "Access review: no audit lines"
	switch {
	case r.Requests.Count > 0:
		line = "Access review of " + r.Requests.days() + " (UTC): " + plural(r.Requests.Count, "request") + r.selection()
	case !r.Lines.None():
		line = "Access review: no requests" + r.selection()
	}
	if r.Revision != "" {
		return line + ", compared with policy " + r.Revision
	}
	return line + "; without a policy, it is not known what is granted"
}

// selection says which requests were asked about.
func (r *Report) selection() string {
	var text string
	if r.Agent != "" {
		text += " of agent " + r.Agent
	}
	if r.User != "" {
		text += " for user " + r.User
	}
	if !r.Since.IsZero() {
		text += " since " + r.Since.UTC().Format(time.DateTime)
	}
	if !r.Until.IsZero() {
		text += " until " + r.Until.UTC().Format(time.DateTime)
	}
	return text
}

// page is text that is being laid out.
type page struct{ bytes.Buffer }

func (p *page) agent(a *Agent, compared bool) {
	p.WriteString("\n")
	p.wrapped(0, 2, a.Name)
	if compared && !a.InPolicy {
		p.labelled("note", "the policy does not know this agent any more")
	}
	p.labelled("owner", or(a.Owner, "nobody"))
	if a.InPolicy {
		p.labelled("expires", a.standing())
	}
	if a.Requests.Count == 0 {
		p.labelled("requests", "none: never seen")
	} else {
		requests := strconv.FormatInt(a.Requests.Count, 10) + ", " + a.Requests.days()
		if a.Inspections > 0 {
			requests += "; of them " + plural(a.Inspections, "inspection") + " of users' tokens"
		}
		p.labelled("requests", requests)
	}
	for i, identity := range a.Identities {
		p.labelled(first(i, "identity"), identity.describe(compared && a.InPolicy))
	}
	p.users(a)
	for _, state := range []struct {
		State
		heading string
	}{
		{Used, "granted and used"}, {Refused, "granted and asked for, but never issued"}, {Unused, "granted and never used"},
		{NotGranted, "used and not granted by this policy"}, {Issued, "used"},
	} {
		p.rights(a, state.State, state.heading)
	}
	p.more(a.MoreRights, "use", "of further rights")
	p.denials(a, false, "denied")
	p.denials(a, true, "issued in audit mode only")
	p.more(a.MoreDenied, "further denial", "")
	p.failures(a)
}

// standing says until when the agent works, and what holds it back.
func (a *Agent) standing() string {
	text := or(a.Expires, "never")
	if a.Expired {
		text += ", expired"
	}
	if a.Blocked {
		text += "; blocked"
	}
	if a.AuditMode {
		text += "; audit mode"
	}
	return text
}

func (i *Identity) describe(compared bool) string {
	switch {
	case i.Count == 0:
		return i.Name + ", never used"
	case compared && !i.Granted:
		return i.Name + ", " + plural(i.Count, "request") + ", last " + day(i.Last) + "; not granted any more"
	}
	return i.Name + ", " + plural(i.Count, "request") + ", last " + day(i.Last)
}

func (p *page) users(a *Agent) {
	if a.UserCount == 0 {
		return
	}
	count := plural(int64(a.UserCount), "user")
	if a.MoreUsers > 0 {
		count += " and more, with " + plural(a.MoreUsers, "request")
	}
	switch n := len(a.Users); n {
	case 0, a.UserCount:
	case 1:
		count += "; the most frequent"
	default:
		count += fmt.Sprintf("; the %d most frequent", n)
	}
	p.wrapped(2, 2, "acted for "+count)
	for _, user := range a.Users {
		who := user.Tenant + "/" + user.ObjectID
		if user.Hash != "" {
			who = user.Hash
		}
		p.wrapped(4, 2, fmt.Sprintf("%s  %7d  %s", who, user.Count, day(user.Last)))
	}
}

func (p *page) rights(a *Agent, state State, heading string) {
	for _, right := range a.Rights {
		if right.State != state {
			continue
		}
		if heading != "" {
			p.WriteString("  " + heading + "\n")
			heading = ""
		}
		rest := fmt.Sprintf("%7d  %s", right.Count, right.days())
		switch state {
		case Unused:
			rest = strings.TrimPrefix(right.Rule, "agents."+a.Name+".")
		case Refused:
			rest = fmt.Sprintf("%7d  %s asked for", right.NotIssued, noun(right.NotIssued, "time"))
		case Used, NotGranted, Issued:
		}
		p.scoped(right.OnBehalfOf, right.Scope, rest)
	}
}

func (p *page) denials(a *Agent, audited bool, heading string) {
	for _, denial := range a.Denied {
		if denial.Audited != audited {
			continue
		}
		if heading != "" {
			p.WriteString("  " + heading + "\n")
			heading = ""
		}
		p.scoped(denial.OnBehalfOf, or(denial.Scopes, "no scope"), fmt.Sprintf("%7d  %s", denial.Count, denial.days()))
		because := denial.Reason
		if denial.Rule != "" {
			because += " by " + denial.Rule
		}
		p.wrapped(10, 2, because)
	}
}

func (p *page) failures(a *Agent) {
	for i, failure := range a.Failures {
		if i == 0 {
			p.WriteString("  failed\n")
		}
		text := failure.Reason
		if failure.Error != "" {
			text += ", " + failure.Error
		}
		if failure.Code != 0 {
			text += ", AADSTS" + strconv.Itoa(failure.Code)
		}
		p.wrapped(4, 6, fmt.Sprintf("%s: %s, %s", text, plural(failure.Count, "time"), failure.days()))
	}
	p.more(a.MoreFailures, "further failure", "")
}

// agentless is what belongs to no single agent.
func (p *page) agentless(r *Report) {
	for i, s := range r.Strangers {
		if i == 0 {
			p.WriteString("\nrefused, and no agent known\n")
		}
		who := or(s.Network, "unknown network")
		if s.Socket != "" {
			who += " " + s.Socket
		}
		if s.UIDKnown {
			who += ", uid " + strconv.FormatUint(uint64(s.UID), 10)
		}
		p.wrapped(2, 4, fmt.Sprintf("%s: %s, %s, last %s", s.Reason, who, plural(s.Count, "time"), day(s.Last)))
	}
	p.more(r.MoreStrangers, "further refusal", "")
	p.more(r.MoreRequests, "request", "of further agents")
	var unseen []string
	for _, a := range r.Agents {
		if a.Requests.Count == 0 {
			unseen = append(unseen, a.Name)
		}
	}
	if len(unseen) > 0 {
		p.WriteString("\n")
		p.wrapped(0, 2, "never seen: "+strings.Join(unseen, ", "))
	}
	if len(r.Agents) == 0 && !r.Lines.None() {
		p.WriteString("\nno agents\n")
	}
}

func (p *page) more(n int64, what, of string) {
	if n > 0 {
		p.wrapped(2, 2, strings.TrimSuffix("and "+plural(n, what)+" "+of, " "))
	}
}

// labelled writes one line of an agent's head. Without a label it goes on with
// the one before.
func (p *page) labelled(label, text string) {
	for i, line := range wrap(text, textWidth-2-labelWidth) {
		fmt.Fprintf(p, "  %-*s%s\n", labelWidth, first(i, label), line)
	}
}

// scoped writes a scope with what is to say about it, beside it or below.
func (p *page) scoped(onBehalfOf bool, scope, rest string) {
	flow := "self"
	if onBehalfOf {
		flow = "obo"
	}
	if utf8.RuneCountInString(scope) <= scopeWidth {
		p.wrapped(4, scopeWidth+8, fmt.Sprintf("%-4s  %-*s  %s", flow, scopeWidth, scope, rest))
		return
	}
	p.wrapped(4, 6, fmt.Sprintf("%-4s  %s", flow, scope))
	p.wrapped(scopeWidth+12, 0, rest)
}

// wrapped writes text with an indent, and what does not fit with a deeper one.
func (p *page) wrapped(indent, deeper int, text string) {
	lines := wrap(text, textWidth-indent)
	if len(lines) > 1 {
		lines = append(lines[:1:1], wrap(strings.TrimLeft(text[len(lines[0]):], " "), textWidth-indent-deeper)...)
	}
	for i, line := range lines {
		at := indent
		if i > 0 {
			at += deeper
		}
		p.WriteString(strings.Repeat(" ", at) + line + "\n")
	}
}

// wrap cuts text into lines of at most width characters, at spaces where it can.
// Each line looks at no more of the text than it can hold: lists of names are long.
func wrap(text string, width int) []string {
	var lines []string
	for {
		end := beginning(text, width)
		if end == len(text) {
			return append(lines, text)
		}
		cut := end
		if text[end] != ' ' {
			if space := strings.LastIndexByte(text[:end], ' '); space > 0 && strings.TrimSpace(text[:space]) != "" {
				cut = space
			}
		}
		lines = append(lines, strings.TrimRight(text[:cut], " "))
		text = strings.TrimLeft(text[cut:], " ")
	}
}

// beginning is how many bytes the first n characters take, or all that there are.
func beginning(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}

// days are those from the first to the last use, of which there is one.
func (u Use) days() string {
	if day(u.First) == day(u.Last) {
		return day(u.First)
	}
	return day(u.First) + " to " + day(u.Last)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func plural(n int64, what string) string {
	return strconv.FormatInt(n, 10) + " " + noun(n, what)
}

func noun(n int64, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// first is text before the first of several lines.
func first(i int, text string) string {
	if i > 0 {
		return ""
	}
	return text
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
