package policy

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// Blocked is the block list of the file. It is looked at before anything is
// granted, in audit mode too.
type Blocked struct {
	Agents []string // names
	Users  []UserID // each with its tenant
}

// Limits are how many requests a minute an agent may make; 0: any number. The
// broker counts, and says in Request.Over what it found.
type Limits struct {
	PerMinute           int // of all requests
	OnBehalfOfPerMinute int // of those on behalf of users
}

// Expiring returns the agents whose last day ends within the given time after
// now, and those whose has ended, the earliest first.
func (p *Policy) Expiring(now time.Time, within time.Duration) []*Agent {
	var expiring []*Agent
	for _, agent := range p.Agents {
		if !agent.Expires.IsZero() && !agent.Expires.After(now.Add(within)) {
			expiring = append(expiring, agent)
		}
	}
	slices.SortFunc(expiring, func(a, b *Agent) int {
		return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.Name, b.Name))
	})
	return expiring
}

const (
	modeEnforce  = "enforce"
	modeAudit    = "audit"
	maxPerMinute = 1_000_000
	minAdvertise = 5 * time.Minute
	maxAdvertise = 24 * time.Hour
)

var (
	mode      = oneOf(modeEnforce, modeAudit)
	perMinute = numbers(1, maxPerMinute)

	limitsForm = fieldsOf(
		optional("perMinute", perMinute, "Requests a minute."),
		optional("onBehalfOf", fieldsOf(optional("perMinute", perMinute, "Requests a minute.")), "Limits of requests on behalf of users, within those of all requests."),
	)
	blockedForm = fieldsOf(
		optional("agents", list(reference), "Names of agents that get nothing."),
		optional("users", list(userIDForm), "Users that nobody may act for, as <tenant id>/<object id>."),
	)
)

// mode reads enforce or audit, and returns what holds where it is absent.
func (r *reader) mode(at place, audit bool) bool {
	text, ok := r.text(at)
	if !ok {
		return audit
	}
	switch text {
	case modeAudit:
		r.warning(at, "audit mode: what the rules deny is issued, and only recorded", "write mode: enforce once the records show no denial that surprises")
	case modeEnforce:
	default:
		r.problem(at, "want enforce or audit, got "+quote(text), "write one of the two, or remove the line for enforce")
	}
	return text == modeAudit
}

func (r *reader) limits(at place) Limits {
	if !at.present() {
		return Limits{}
	}
	fields, ok := r.fields(at, &limitsForm)
	if !ok {
		return Limits{}
	}
	limits := Limits{PerMinute: r.perMinute(fields["perMinute"])}
	if at := fields["onBehalfOf"]; at.present() {
		limits.OnBehalfOfPerMinute = r.perMinute(r.only(at, limitsForm.Properties["onBehalfOf"]))
	}
	return limits
}

func (r *reader) perMinute(at place) int {
	if !at.present() {
		return 0
	}
	want := "a number from 1 to " + strconv.Itoa(maxPerMinute)
	n, ok := r.number(at, want)
	if ok && (n < 1 || n > maxPerMinute) {
		r.problem(at, "want "+want+", got "+strconv.FormatUint(uint64(n), 10), "write how many requests a minute are enough, or block the agent with blocked: true")
	}
	return int(n)
}

// blocked reads the block list. Its agents are marked with the path that
// blocks them.
func (r *reader) blocked(at place, p *Policy, agents []string) {
	p.blockedUsers = map[UserID]string{}
	if !at.present() {
		return
	}
	fields, ok := r.fields(at, &blockedForm)
	if !ok {
		return
	}
	for _, e := range r.references(fields["agents"], "agent", agents) {
		p.Blocked.Agents = append(p.Blocked.Agents, e.name)
		p.Agents[e.name].Blocked, p.Agents[e.name].rules.blocked = true, e.value.path
	}
	for _, item := range r.items(fields["users"]) {
		id, ok := r.userID(item)
		_, twice := p.blockedUsers[id]
		switch {
		case !ok:
		case id.Tenant == "":
			r.problem(item, "it is not said which tenant the user is of", "write <tenant id>/<object id>")
		case twice:
			r.problem(item, "the user is listed twice", "remove one of the two")
		default:
			p.Blocked.Users = append(p.Blocked.Users, id)
			p.blockedUsers[id] = item.path
		}
	}
}
