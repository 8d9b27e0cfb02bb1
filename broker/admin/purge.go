package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
)

// PurgePath is where tokens are purged: POST, with a form of agent, identity,
// user (<tenant id>/<object id>) and scope, or all=true.
const PurgePath = "/purge"

// Selection is what a purge is for. Empty fields match everything.
type Selection struct{ Agent, Identity, User, Scope string }

// Purged says how much was purged.
type Purged struct {
	Tokens   int `json:"tokens"`
	Sessions int `json:"sessions"`
}

// Purger purges what is selected. It is called concurrently.
type Purger func(Selection) Purged

const maxPurgeBytes = 8 << 10

// purge is for operators: in a pod, agents reach this listener too, and one of
// them must not be able to hinder the others.
func (h *Handler) purge(w http.ResponseWriter, r *http.Request) {
	if !h.isOperator(r) {
		http.Error(w, "only the broker's own user, root and who presents the operator key may purge: run credfree purge as one of them", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxPurgeBytes)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "send a form: agent, identity, user, scope, or all=true", http.StatusBadRequest)
		return
	}
	selected, err := selection(r.PostForm)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := json.Marshal(h.cfg.Purge(selected))
	if err != nil {
		http.Error(w, "purged; the result cannot be shown", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // a reader that is gone is its own fault
}

func selection(form url.Values) (Selection, error) {
	var s Selection
	fields := map[string]*string{"agent": &s.Agent, "identity": &s.Identity, "user": &s.User, "scope": &s.Scope}
	all := false
	for name, values := range form {
		field := fields[name]
		switch {
		case len(values) != 1 || values[0] == "":
			return s, errors.New("each of the form's fields has one value")
		case name == "all" && values[0] == "true":
			all = true
		case field == nil:
			return s, errors.New("the fields are agent, identity, user, scope and all=true")
		default:
			*field = values[0]
		}
	}
	if all == (s != Selection{}) {
		return s, errors.New("say what to purge: agent, identity, user, scope, or all=true alone")
	}
	return s, nil
}
