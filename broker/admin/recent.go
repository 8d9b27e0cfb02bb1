package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/credfree/credfree/broker/recent"
)

// Paths of the operators' JSON.
const (
	IssuancesPath = "/issuances" // and, below it, one by its id
	EventsPath    = "/issuances/events"
	statePath     = "/state"
)

// Issuances is the answer of GET /issuances, the newest first.
type Issuances struct {
	Issuances []recent.Issuance `json:"issuances"`
	Matching  int               `json:"matching"` // of those that are remembered
	// Background are the spans of the trace with the id that was asked for, where that
	// is a refresh's: Entra's sign-in log has it, and no issuance.
	Background []recent.Span `json:"background,omitempty"`
	Held       recent.Held   `json:"remembered"`
}

// Detail is the answer of GET /issuances/{id}.
type Detail struct {
	Issuance recent.Issuance `json:"issuance"`
	// Steps are those of the decision, by the policy whose revision the issuance
	// names, taken when it was made. None: the policy was not asked.
	Steps []recent.Step `json:"steps"`
	// Spans are all of its trace that are remembered, in order of their start.
	Spans []recent.Span `json:"spans"`
	Lost  int           `json:"spans_lost,omitempty"` // that there was no room for
	// SharedWith is the issuance whose exchange this one joined.
	SharedWith string `json:"shared_with,omitempty"`
	InForce    string `json:"policy_in_force"` // revision
}

// Problem is what a program is told that asks wrongly.
type Problem struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

const (
	defaultLimit = 100
	maxLimit     = recent.MaxIssuances
)

// filters reads the filters of a request. Fields that are empty are as good as
// absent: a form sends them.
func (h *Handler) filters(r *http.Request) (url.Values, recent.Query, *Problem) {
	values, problem := queryValues(r)
	if problem != nil {
		return nil, recent.Query{}, problem
	}
	q, err := queryOf(values)
	if err != nil {
		return nil, recent.Query{}, &Problem{err.Error(), filterHint}
	}
	if q.User != "" && h.cfg.UserHash != nil {
		if q.UserHash, err = h.cfg.UserHash(q.User); err != nil {
			return nil, recent.Query{}, &Problem{err.Error(), "both are GUIDs; the whole hash, as the audit log has it, does as well"}
		}
	}
	return values, q, nil
}

// queryValues are those of the request's query. What cannot be read is refused:
// without it, the request would mean more than whoever sent it has meant.
func queryValues(r *http.Request) (url.Values, *Problem) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &Problem{"the query cannot be read", "put & between its fields, and percent-encode their values"}
	}
	return values, nil
}

func queryOf(values url.Values) (recent.Query, error) {
	q := recent.Query{Limit: defaultLimit}
	fields := map[string]*string{
		"agent": &q.Agent, "user": &q.User, "scope": &q.Scope, "decision": &q.Decision, "reason": &q.Reason, "door": &q.Door,
		"cache": &q.Cache, "id": &q.ID, "trace": &q.Trace, "correlation_id": &q.CorrelationID,
	}
	for name, given := range values {
		value := given[0]
		field, known := fields[name]
		switch {
		case len(given) > 1:
			return q, fmt.Errorf("%s is given twice", printable(name))
		case name == "limit" && value != "":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxLimit {
				return q, fmt.Errorf("limit has to be a number from 1 to %d", maxLimit)
			}
			q.Limit = n
		case name == "after" && value != "":
			number, _, _ := strings.Cut(value, "-") // of an EventID, too
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return q, fmt.Errorf("after has to be the number of an issuance")
			}
			q.After = n
		case known:
			if wrong := WrongFilter(name, value); wrong != "" {
				return q, errors.New(wrong)
			}
			*field = value
		case name != "limit" && name != "after" && name != "rows":
			return q, fmt.Errorf("there is no filter %s", printable(name))
		}
	}
	return q, nil
}

// WrongFilter says what a filter has to be when value is nothing that it could
// match; "" when value is as good as any. An empty one is.
func WrongFilter(name, value string) string {
	words := map[string][]string{"decision": {recent.Allow, recent.Deny, recent.Fail}, "door": doors(), "cache": caches()}[name]
	switch {
	case value == "" || slices.Contains(words, value):
		return ""
	case words != nil:
		last := len(words) - 1
		return name + " is " + strings.Join(words[:last], ", ") + " or " + words[last]
	case name == "reason" && strings.ContainsFunc(value, notOfReason):
		return "reason is a word of lower-case letters, digits and underscores, e.g. scope_not_allowed"
	}
	return ""
}

func doors() []string { return []string{"oauth", "managed_identity", "auth_sidecar", "call_through"} }

func caches() []string { return []string{"hit", "joined", "miss"} }

func notOfReason(c rune) bool {
	return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
}

const filterHint = "the filters are agent, user, scope, decision, reason, door, cache, id, trace, correlation_id, after and limit"

func printable(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 40)]) }

// list answers with the issuances that match: a page or JSON, as is wanted.
func (h *Handler) list(w http.ResponseWriter, r *http.Request) {
	if wantsPage(r) {
		h.issuancesPage(w, r)
		return
	}
	_, q, problem := h.filters(r)
	if problem != nil {
		writeJSON(w, http.StatusBadRequest, problem)
		return
	}
	held := h.cfg.Memory.Held() // first: all that was seen then and matches is found
	found, matching := h.cfg.Memory.Find(q)
	writeJSON(w, http.StatusOK, Issuances{Issuances: listed(found), Matching: matching, Background: h.background(q), Held: held})
}

// background is the trace of a refresh, by its id or the correlation id, which are
// the same but for dashes.
func (h *Handler) background(q recent.Query) []recent.Span {
	var id recent.TraceID
	if id.UnmarshalText([]byte(strings.ReplaceAll(cmp.Or(q.CorrelationID, q.Trace, q.ID), "-", ""))) != nil {
		return nil
	}
	spans := h.cfg.Memory.Trace(id).Spans
	if slices.ContainsFunc(spans, func(s recent.Span) bool { return s.Issuance != "" }) {
		return nil
	}
	return spans
}

// listed makes a list of nothing an empty one, which null is not to all programs.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// one answers with one issuance.
func (h *Handler) one(w http.ResponseWriter, r *http.Request) {
	// It has no filters. Whoever sends some that cannot be read is told so as by
	// the list.
	if _, problem := queryValues(r); problem != nil {
		if wantsPage(r) {
			h.message(w, r, http.StatusBadRequest, "Not understood", problem.Error+".", problem.Hint)
			return
		}
		writeJSON(w, http.StatusBadRequest, problem)
		return
	}
	detail, ok := h.detail(r.PathValue("id"))
	switch {
	case wantsPage(r):
		h.issuancePage(w, r, detail, ok)
	case !ok:
		writeJSON(w, http.StatusNotFound, Problem{notRemembered, "the audit log has it: look for its issuance_id"})
	default:
		writeJSON(w, http.StatusOK, detail)
	}
}

const notRemembered = "the issuance is not remembered: only the last ones are, since the broker started"

func (h *Handler) detail(id string) (Detail, bool) {
	i, ok := h.cfg.Memory.Get(id)
	if !ok {
		return Detail{}, false
	}
	trace := h.cfg.Memory.Trace(i.TraceID)
	if i.SpanID == (recent.SpanID{}) {
		trace.Spans = []recent.Span{i.Span()}
	}
	return Detail{
		Issuance: i, Steps: listed(i.Steps), Spans: listed(trace.Spans), Lost: trace.Lost,
		SharedWith: h.cfg.Memory.Shared(&i), InForce: h.cfg.Overview().Policy.Revision,
	}, true
}

// overview is the broker's, with what this package knows itself.
func (h *Handler) overview(ctx context.Context) Overview {
	o := h.cfg.Overview()
	o.Now = time.Now().UTC()
	o.Ready, o.Held, o.Minutes = h.state(ctx), h.cfg.Memory.Held(), h.cfg.Memory.Minutes(o.Now)
	return o
}

func (h *Handler) showState(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, h.overview(r.Context()))
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		http.Error(w, "the answer cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // a reader that is gone is its own fault
}
