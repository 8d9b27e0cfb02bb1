package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
)

// The model is DESIGN's rules written a second time, slowly: lists and loops
// over what was put into the file, no index, and net/url for the scopes.

type modelAgent struct {
	name, expires, identity string // expires and identity: "" for none
	identities              []string
	callers                 []modelCaller
	scopes                  []string
}

type modelCaller struct {
	socket  string
	uids    []uint32
	keyFile string
	any     bool // any local process
}

type modelAnswer struct {
	reason                  policy.Reason
	agent, identity, scopes string
}

// matches is the table of who a caller lets in.
func (c modelCaller) matches(p policy.Peer, fileHasKeys bool) bool {
	uidFits := len(c.uids) == 0 || p.Known && slices.Contains(c.uids, p.UID)
	keyless := p.KeyFile == "" && (!p.KeyRefused || !fileHasKeys)
	switch {
	case p.Socket != "":
		return c.socket == p.Socket && uidFits
	case c.socket != "":
		return false
	case c.keyFile != "":
		return p.KeyFile == c.keyFile && !p.KeyRefused && uidFits
	case c.any:
		return keyless
	}
	return keyless && uidFits
}

// clashes reports whether one peer could match both callers.
func (c modelCaller) clashes(o modelCaller) bool {
	switch {
	case c.socket != "" || o.socket != "":
		oneIsBare := !path.IsAbs(c.socket) || !path.IsAbs(o.socket)
		return c.socket == o.socket || c.socket != "" && o.socket != "" && oneIsBare && path.Base(c.socket) == path.Base(o.socket)
	case c.keyFile != "" || o.keyFile != "":
		return c.keyFile == o.keyFile
	}
	return c.any || o.any || slices.ContainsFunc(c.uids, func(uid uint32) bool { return slices.Contains(o.uids, uid) })
}

func modelDecide(agents []modelAgent, r policy.Request) modelAnswer {
	hasKeys := false
	for _, a := range agents {
		hasKeys = hasKeys || slices.ContainsFunc(a.callers, func(c modelCaller) bool { return c.keyFile != "" })
	}
	for _, a := range agents {
		for _, c := range a.callers {
			if c.matches(r.Peer, hasKeys) {
				return a.decide(r)
			}
		}
	}
	return modelAnswer{reason: policy.UnknownAgent}
}

func (a modelAgent) decide(r policy.Request) modelAnswer {
	answer := modelAnswer{agent: a.name}
	deny := func(reason policy.Reason) modelAnswer {
		answer.reason = reason
		return answer
	}
	if r.Agent != "" && r.Agent != a.name {
		return deny(policy.AgentMismatch)
	}
	if a.expires != "" && r.Now.UTC().Format(time.DateOnly) > a.expires {
		return deny(policy.AgentExpired)
	}
	choice := append(slices.Clone(a.identities), a.identity)
	identity := r.Identity
	if identity == "" {
		identity = a.identity
	}
	if identity == "" && len(a.identities) == 1 {
		identity = a.identities[0]
	}
	if identity == "" {
		return deny(policy.IdentityMissing)
	}
	if !slices.Contains(choice, identity) {
		return deny(policy.IdentityNotAllowed)
	}
	answer.identity = identity

	scopes := strings.Fields(r.Scope)
	if len(scopes) == 0 {
		return deny(policy.ScopeMissing)
	}
	resources := map[string]bool{}
	for _, scope := range scopes {
		resource, ok := modelScope(scope)
		if !ok || len(scopes) > 16 {
			return deny(policy.ScopeMalformed)
		}
		resources[resource] = true
	}
	if len(resources) > 1 {
		return deny(policy.ScopeMixedResources)
	}
	for _, scope := range scopes {
		if !slices.Contains(a.scopes, scope) {
			return deny(policy.ScopeNotAllowed)
		}
	}
	slices.Sort(scopes)
	answer.scopes = strings.Join(slices.Compact(scopes), " ")
	return answer
}

var (
	modelGUID    = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[^/]+$`)
	modelHost    = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	modelSegment = regexp.MustCompile(`^[A-Za-z0-9_~!$&'()+,;=:@-][A-Za-z0-9._~!$&'()+,;=:@-]*$`)
)

func modelScope(scope string) (resource string, ok bool) {
	slash := strings.LastIndex(scope, "/")
	if slash < 0 || len(scope) > 512 {
		return "", false
	}
	resource, name := scope[:slash], scope[slash+1:]
	if name != ".default" && !modelSegment.MatchString(name) {
		return "", false
	}
	if modelGUID.MatchString(scope) {
		return resource, true
	}
	u, err := url.Parse(resource)
	if err != nil || u.Scheme+"://"+u.Host+u.Path != resource {
		return "", false
	}
	for _, segment := range strings.Split(u.Path, "/")[1:] {
		if !modelSegment.MatchString(segment) {
			return "", false
		}
	}
	switch u.Scheme {
	case "https":
		return resource, len(u.Host) <= 253 && modelHost.MatchString(u.Host)
	case "api":
		return resource, modelSegment.MatchString(u.Host) && !strings.Contains(u.Host, ":")
	}
	return "", false
}

// What random files and requests are made of: few values, so that they meet.
var (
	modelUIDs    = []uint32{0, 1, 2, 3}
	modelSockets = []string{"a.sock", "b.sock", "/run/a.sock", "/run/c.sock", "/srv/c.sock"}
	modelKeys    = []string{"/k/1", "/k/2", "/k/3"}
	modelNames   = []string{"app", "web", "job"}
	modelDates   = []string{"2027-01-01", "2027-06-30"}
	modelGood    = []string{graph, mailRead, search, orders, "00000003-0000-0000-c000-000000000000/.default", "https://contoso.com/a/b/.default"}
	modelBad     = []string{
		"https://Graph.microsoft.com/.default", "https://graph.microsoft.com:443/.default", "https://graph.microsoft.com", "User.Read",
		"openid", "https://graph.microsoft.com//.default", "https://graph.microsoft.com/%2e", "https://a@b/.default", "api://a:1/x",
		"https://graph.microsoft.com/Mail.Send", "https://contoso.com/a/.default", "https://graph.microsoft.com/.defaults", "https://é.example/x",
	}
)

func some[T any](rng *rand.Rand, from []T) []T {
	var chosen []T
	for _, v := range from {
		if rng.IntN(3) == 0 {
			chosen = append(chosen, v)
		}
	}
	return chosen
}

func one[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

func randomAgents(rng *rand.Rand) []modelAgent {
	var agents []modelAgent
	for i := range 1 + rng.IntN(3) {
		a := modelAgent{name: fmt.Sprintf("agent-%d", i), scopes: some(rng, modelGood), identities: some(rng, modelNames)}
		if rng.IntN(2) == 0 {
			a.expires = one(rng, modelDates)
		}
		if len(a.identities) == 0 {
			a.identity = one(rng, modelNames)
		} else if rng.IntN(2) == 0 {
			a.identity = one(rng, a.identities)
		}
		for range rng.IntN(3) {
			a.callers = append(a.callers, randomCaller(rng))
		}
		agents = append(agents, a)
	}
	return agents
}

func randomCaller(rng *rand.Rand) modelCaller {
	uids := some(rng, modelUIDs)
	switch rng.IntN(8) {
	case 0, 1, 2:
		return modelCaller{socket: one(rng, modelSockets), uids: uids}
	case 3, 4:
		return modelCaller{keyFile: one(rng, modelKeys), uids: uids}
	case 5:
		return modelCaller{any: true}
	}
	return modelCaller{uids: append(uids, 4)}
}

func (c modelCaller) yaml() string {
	uids := ""
	if len(c.uids) > 0 {
		uids = "uids: " + strings.ReplaceAll(fmt.Sprint(c.uids), " ", ", ") + ", "
	}
	switch {
	case c.socket != "":
		return "{" + uids + "socket: " + c.socket + "}"
	case c.keyFile != "":
		return "{tcp: {" + uids + "keyFile: " + c.keyFile + "}}"
	case c.any:
		return "{tcp: {any: true}}"
	}
	return "{tcp: {" + uids + "}}"
}

func modelFile(agents []modelAgent) string {
	var b strings.Builder
	b.WriteString("version: 1\ntenant: contoso.com\nsources: {pod: {file: {path: /t}}}\nidentities:\n")
	for _, name := range modelNames {
		fmt.Fprintf(&b, "  %s: {application: {clientID: %s, source: pod}}\n", name, billingID)
	}
	b.WriteString("agents:\n")
	for _, a := range agents {
		fmt.Fprintf(&b, "  %s:\n    identities: [%s]\n", a.name, strings.Join(a.identities, ", "))
		if a.identity != "" {
			fmt.Fprintf(&b, "    identity: %s\n", a.identity)
		}
		if a.expires != "" {
			fmt.Fprintf(&b, "    expires: %s\n", a.expires)
		}
		b.WriteString("    callers:\n")
		for _, c := range a.callers {
			b.WriteString("      - " + c.yaml() + "\n")
		}
		if len(a.callers) == 0 {
			b.WriteString("      []\n")
		}
		fmt.Fprintf(&b, "    allow: {scopes: [%s]}\n", strings.Join(a.scopes, ", "))
	}
	return b.String()
}

func randomRequest(rng *rand.Rand) policy.Request {
	r := policy.Request{
		Peer:     policy.Peer{UID: uint32(rng.IntN(6)), Known: rng.IntN(4) > 0},
		Agent:    one(rng, []string{"", "", "", "agent-0", "agent-1"}),
		Identity: one(rng, append([]string{"", "", "", "none"}, modelNames...)),
		Now:      one(rng, []time.Time{may2027, may2027.AddDate(0, -3, 0), time.Date(2027, 6, 30, 23, 59, 59, 0, time.UTC), time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC)}),
	}
	switch rng.IntN(4) {
	case 0, 1:
		r.Peer.Socket = one(rng, append([]string{"c.sock"}, modelSockets...))
	case 2:
		r.Peer.KeyFile, r.Peer.KeyRefused = one(rng, append([]string{""}, modelKeys...)), rng.IntN(4) == 0
	}
	var scopes []string
	for range rng.IntN(4) {
		scopes = append(scopes, one(rng, modelGood[:rng.IntN(len(modelGood))+1]))
	}
	if rng.IntN(8) == 0 {
		scopes = append(scopes, one(rng, modelBad))
	}
	r.Scope = strings.Join(scopes, one(rng, []string{" ", "\t", " \n", "\u2003"}))
	return r
}

func TestModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	seen := map[policy.Reason]int{}
	refused, answered := 0, 0
	for range 4000 {
		agents := randomAgents(rng)
		var callers []modelCaller
		for _, a := range agents {
			callers = append(callers, a.callers...)
		}
		clash := false
		for i, c := range callers {
			clash = clash || slices.ContainsFunc(callers[:i], c.clashes)
		}
		file := modelFile(agents)
		p, err := policy.Parse("/etc/credfree.yaml", []byte(file))
		if (err != nil) != clash {
			t.Fatalf("the model says that callers clash: %v; Parse says %v\n%s", clash, err, file)
		}
		if clash {
			refused++
			continue
		}
		for range 25 {
			r := randomRequest(rng)
			d, want := p.Decide(r), modelDecide(agents, r)
			got := modelAnswer{reason: d.Reason, identity: d.Identity, scopes: d.Scope}
			if d.Agent != nil {
				got.agent = d.Agent.Name
			}
			if got != want || d.Allowed != (want.reason == "") {
				t.Fatalf("%+v:\n got %+v\nwant %+v\n%s", r, got, want, file)
			}
			seen[d.Reason]++
			answered++
		}
	}
	// A model that meets nothing proves nothing.
	for _, reason := range []policy.Reason{
		"", policy.UnknownAgent, policy.AgentMismatch, policy.AgentExpired, policy.IdentityNotAllowed, policy.IdentityMissing,
		policy.ScopeMissing, policy.ScopeMalformed, policy.ScopeMixedResources, policy.ScopeNotAllowed,
	} {
		if seen[reason] < 50 {
			t.Errorf("got %d answers %q of %d, want at least 50", seen[reason], reason, answered)
		}
	}
	if refused < 100 {
		t.Errorf("got %d files with clashes, want at least 100", refused)
	}
}
