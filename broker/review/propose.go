package review

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// WriteProposal writes the smaller policy: for each agent that has rights it did
// not ask for, the allow blocks without them, as YAML with the reasons beside.
// What was asked for and not issued stays: it is wanted. An API stays whole when
// any scope of it was used, and what else a role brought is listed scope by
// scope. The error says that there is no policy, or nothing to propose from.
func (r *Report) WriteProposal(w io.Writer) error {
	switch {
	case r.Revision == "":
		return errors.New("without a policy there is nothing to make smaller")
	case r.Requests.Count == 0:
		return errors.New("no audit line is of that time: it is not known what is used")
	}
	var p proposal
	p.comment(0, "What was used on "+r.Requests.days()+" (UTC), by "+plural(r.Requests.Count, "request")+"; compared with policy "+r.Revision+".")
	p.comment(0, "These blocks replace those of the same name in the policy file; to do so with yq:")
	p.line(0, "#   yq eval-all '. as $file ireduce ({}; . * $file)' credfree.yaml proposal.yaml")
	var unchanged, unseen []string
	var changed []*Agent
	for i := range r.Agents {
		a := &r.Agents[i]
		if a.InPolicy && a.Requests.Count == 0 {
			unseen = append(unseen, a.Name)
		}
		switch {
		case !a.InPolicy:
		case slices.ContainsFunc(a.Rights, Right.superfluous):
			changed = append(changed, a)
		default:
			unchanged = append(unchanged, a.Name)
		}
	}
	if len(unseen) > 0 {
		p.comment(0, "Never seen, so perhaps not wanted at all: "+strings.Join(unseen, ", ")+".")
	}
	if len(unchanged) > 0 {
		p.comment(0, "Nothing to take away: "+strings.Join(unchanged, ", ")+".")
	}
	if len(changed) > 0 {
		p.line(0, "agents:")
	}
	for _, a := range changed {
		p.agent(a)
	}
	_, err := w.Write(p.Bytes())
	return err
}

func (r Right) superfluous() bool { return r.State == Unused }

// proposal is YAML that is being written.
type proposal struct{ bytes.Buffer }

func (p *proposal) agent(a *Agent) {
	head := scalar(a.Name) + ":"
	if a.Owner != "" {
		head += " # owner " + a.Owner
	}
	p.line(2, head)
	own, forUsers := a.byFlow(false), a.byFlow(true)
	if slices.ContainsFunc(own, item.dropped) {
		p.allow(4, own, a.granted.own)
	}
	if slices.ContainsFunc(forUsers, item.dropped) {
		p.line(4, "onBehalfOf:")
		switch {
		case slices.ContainsFunc(forUsers, item.kept):
		case a.Inspections > 0:
			p.comment(6, "nothing was asked for on behalf of a user; onBehalfOf stays, to inspect users' tokens")
		default:
			p.comment(6, "nothing was asked for on behalf of a user: onBehalfOf can go")
		}
		p.allow(6, forUsers, a.granted.forUsers)
	}
}

// item is a grant with what became of it.
type item struct {
	grant
	Right
}

func (i item) dropped() bool { return i.superfluous() }
func (i item) kept() bool    { return !i.superfluous() }

func (a *Agent) byFlow(forUser bool) []item {
	var items []item
	for i, g := range a.granted.list { // the first of Rights
		if g.forUser == forUser {
			items = append(items, item{g, a.Rights[i]})
		}
	}
	return items
}

// allow writes one allow block without what is superfluous. A list that the file
// has stays, empty if need be, so that it replaces the old one.
func (p *proposal) allow(indent int, items []item, b block) {
	p.line(indent, "allow:")
	indent += 2
	wanted := func(a api) bool {
		return slices.ContainsFunc(items, func(i item) bool { return i.kept() && slices.Contains(a.scopes, i.scope) })
	}
	whole := map[string]bool{}
	for _, a := range b.apis {
		whole[a.name] = wanted(a)
	}
	var listed, gone []item
	for _, i := range items {
		switch {
		case i.api != "" && whole[i.api]:
		case i.kept():
			listed = append(listed, i)
		default:
			gone = append(gone, i)
		}
	}
	p.scopes(indent, listed, gone)
	if b.roles {
		p.line(indent, "roles: [] # what was used of them is listed above")
	}
	if len(b.apis) > 0 {
		p.apis(indent, slices.DeleteFunc(slices.Clone(b.apis), func(a api) bool { return !whole[a.name] }), items)
	}
}

func (p *proposal) scopes(indent int, listed, gone []item) {
	if len(listed) == 0 {
		p.line(indent, "scopes: []")
	} else {
		p.line(indent, "scopes:")
	}
	for _, i := range listed {
		p.line(indent+2, "- "+scalar(i.text)+" # "+i.from()+i.why())
	}
	for _, i := range gone {
		p.comment(indent+2, "never used: "+i.from()+i.text)
	}
}

func (p *proposal) apis(indent int, kept []api, items []item) {
	if len(kept) == 0 {
		p.line(indent, "apis: []")
		return
	}
	p.line(indent, "apis:")
	for _, a := range kept {
		p.line(indent+2, "- "+scalar(a.name))
		for _, i := range items {
			if slices.Contains(a.scopes, i.scope) {
				p.comment(indent+4, i.scope+": "+i.why())
			}
		}
	}
}

// from says what brought the scope, when that is not its own line.
func (i item) from() string {
	switch {
	case i.role != "":
		return "of role " + i.role + ": "
	case i.api != "":
		return "of api " + i.api + ": "
	}
	return ""
}

func (i item) why() string {
	switch i.State {
	case Used:
		return plural(i.Count, "time") + ", last on " + day(i.Last)
	case Refused:
		return "asked for " + plural(i.NotIssued, "time") + " and never issued"
	case Unused, NotGranted, Issued:
	}
	return "never used"
}

func (p *proposal) line(indent int, text string) {
	fmt.Fprintf(p, "%s%s\n", strings.Repeat(" ", indent), text)
}

func (p *proposal) comment(indent int, text string) {
	for _, line := range wrap(text, textWidth-indent-2) {
		p.line(indent, "# "+line)
	}
}

// scalar writes a name or a scope so that YAML reads it as that very text.
func scalar(text string) string {
	data, err := yaml.Marshal(text)
	if err != nil { // text always encodes
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(data), "\n")
}
