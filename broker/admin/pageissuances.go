package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/credfree/credfree/broker/recent"
)

// issuancesView is the list of issuances with its filters.
type issuancesView struct {
	Query     recent.Query
	Filtered  bool
	More      bool // the filters that are seldom used are in use
	Problem   string
	Issuances []recent.Issuance
	Matching  int
	All       string    // the page with all that match, when there are more
	Refresh   *timeline // the trace of a refresh that was asked for
	Last      string    // EventID of the newest that the list may hold
	Stream    string    // where the next ones come from
	Agents    []string
	Doors     []string
	Caches    []string
}

func (h *Handler) issuancesPage(w http.ResponseWriter, r *http.Request) {
	status, v := http.StatusOK, issuancesView{Doors: doors(), Caches: caches()}
	values, q, problem := h.filters(r)
	if problem != nil {
		status, v.Problem, q = http.StatusBadRequest, problem.Error, recent.Query{Limit: defaultLimit}
		values = url.Values{}
	}
	v.Last = EventID(h.cfg.Memory.Last(), h.cfg.Memory.Held().Since)
	v.Issuances, v.Matching = h.cfg.Memory.Find(q)
	v.Query, v.More = q, q.Door != "" || q.Cache != "" || q.ID != "" || q.Trace != "" || q.CorrelationID != "" || q.Reason != ""
	v.Filtered = v.More || q.Agent != "" || q.User != "" || q.Scope != "" || q.Decision != ""
	for _, agent := range h.cfg.Overview().Agents {
		v.Agents = append(v.Agents, agent.Name)
	}
	if q.Agent != "" && q.Agent != recent.Nobody && !slices.Contains(v.Agents, q.Agent) {
		v.Agents = append(v.Agents, q.Agent)
	}
	if spans := h.background(q); len(spans) > 0 {
		v.Refresh = timelineOf(spans)
	}
	values.Del("after")
	if v.Matching > len(v.Issuances) {
		values.Set("limit", strconv.Itoa(maxLimit))
		v.All = "/?" + values.Encode()
	}
	values.Set("rows", "true")
	values.Del("limit")
	v.Stream = EventsPath + "?" + values.Encode()
	h.show(w, r, status, "issuances", view{Title: "Issuances", Here: "/", Open: true, Content: &v})
}

// issuanceView is one issuance.
type issuanceView struct {
	Detail
	Timeline *timeline
	Others   int  // spans of the trace that are not of this issuance
	Changed  bool // another policy is in force by now
}

// timeline is the waterfall of some spans.
type timeline struct {
	Bars  []bar
	Whole string // how long all of it took
}

func timelineOf(spans []recent.Span) *timeline {
	bars, whole := waterfall(spans)
	return &timeline{bars, whole}
}

func (h *Handler) issuancePage(w http.ResponseWriter, r *http.Request, d Detail, ok bool) {
	if !ok {
		h.message(w, r, http.StatusNotFound, "Not remembered", notRemembered+".", "The audit log has every issuance: look there for this issuance_id.")
		return
	}
	below := d.Issuance.Below(d.Spans)
	v := issuanceView{Detail: d, Others: len(d.Spans) - len(below), Changed: d.Issuance.Revision != d.InForce, Timeline: timelineOf(below)}
	h.show(w, r, http.StatusOK, "issuance", view{Title: "Issuance " + d.Issuance.ID[:min(8, len(d.Issuance.ID))], Here: "/", Open: true, Content: &v})
}

// agentsView is all agents.
type agentsView struct {
	Agents    []AgentView
	Policy    PolicyView
	Uncounted int64
}

func (h *Handler) agentsPage(w http.ResponseWriter, r *http.Request) {
	o := h.cfg.Overview()
	h.show(w, r, http.StatusOK, "agents", view{Title: "Agents", Here: "/agents", Open: true, Content: agentsView{o.Agents, o.Policy, o.Uncounted}})
}

// healthView is the cache and Entra.
type healthView struct {
	Overview
	Plots   []plot
	Minutes []recent.Minute // in which something happened
}

func (h *Handler) healthPage(w http.ResponseWriter, r *http.Request) {
	v := healthView{Overview: h.overview(r.Context())}
	v.Plots = plots(v.Overview.Minutes)
	for _, m := range v.Overview.Minutes {
		if m.Allowed+m.Inspected+m.Denied+m.Failed+m.Refreshes+m.Exchanges > 0 {
			v.Minutes = append(v.Minutes, m)
		}
	}
	slices.Reverse(v.Minutes)
	h.show(w, r, http.StatusOK, "health", view{Title: "Health", Here: "/health", Open: true, Content: &v})
}

func (h *Handler) policyPage(w http.ResponseWriter, r *http.Request) {
	o := h.cfg.Overview()
	h.show(w, r, http.StatusOK, "policy", view{Title: "Policy", Here: "/policy", Open: true, Content: o})
}

// purgeView is what would be purged, or has been.
type purgeView struct {
	Selection
	All  bool
	Done *Purged
}

// askPurge asks before anything is purged, and does not ask about what would purge
// nothing. It changes nothing.
func (h *Handler) askPurge(w http.ResponseWriter, r *http.Request) {
	values, problem := queryValues(r)
	if problem != nil {
		h.message(w, r, http.StatusBadRequest, "Nothing to purge", problem.Error+".", problem.Hint)
		return
	}
	selected, err := selection(chosen(values))
	if err != nil {
		h.message(w, r, http.StatusBadRequest, "Nothing to purge", err.Error()+".", "Choose an agent on the agents page, or all tokens on the policy page.")
		return
	}
	if selected, err = h.cfg.Resolve(selected); err != nil {
		h.refusePurge(w, r, err)
		return
	}
	h.show(w, r, http.StatusOK, "purge", view{Title: "Purge?", Open: true, Content: purgeView{Selection: selected, All: selected == Selection{}}})
}

// confirmedPurge purges what the page asked about.
func (h *Handler) confirmedPurge(w http.ResponseWriter, r *http.Request) {
	if !h.readForm(w, r) {
		return
	}
	if !h.ours(r) {
		h.message(w, r, http.StatusForbidden, "Not purged", "The form is not from a page of this broker, or the broker has been restarted since.", "Go back, load the page anew, and try again.")
		return
	}
	r.PostForm.Del("form_key")
	done, err := h.purgeForm(chosen(r.PostForm))
	if err != nil {
		h.refusePurge(w, r, err)
		return
	}
	h.show(w, r, http.StatusOK, "purge", view{Title: "Purged", Open: true, Content: purgeView{Done: &done}})
}

func (h *Handler) refusePurge(w http.ResponseWriter, r *http.Request, err error) {
	status, problem := refusal(err)
	h.message(w, r, status, "Nothing to purge", problem.Error+".", problem.Hint)
}

// chosen leaves out the fields of a form that nobody filled in.
func chosen(form url.Values) url.Values {
	filled := url.Values{}
	for name, values := range form {
		if len(values) != 1 || values[0] != "" {
			filled[name] = values
		}
	}
	return filled
}
