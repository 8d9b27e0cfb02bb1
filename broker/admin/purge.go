package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// PurgePath is where tokens are purged: POST, with a form of agent, identity,
// user (<tenant id>/<object id>, an object id, or the hash that stands for the
// user) and scope, or all=true.
const PurgePath = "/purge"

// Selection is what a purge is for. Empty fields match everything.
type Selection struct{ Agent, Identity, User, Scope string }

// SelectionError says why a selection cannot mean anything.
type SelectionError struct {
	Text string
	Hint string // what to write
	// Unknown: it is well written, and names what is not known.
	Unknown bool
}

// Error returns the text, without the hint.
func (e *SelectionError) Error() string { return e.Text }

// Purged says how much was purged.
type Purged struct {
	Tokens   int `json:"tokens"`
	Sessions int `json:"sessions"`
}

// String says it in words.
func (p Purged) String() string {
	return counted(p.Tokens, "token") + " and " + counted(p.Sessions, "session")
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Purger purges what is selected. It is called concurrently. The error is a
// *SelectionError, and then nothing is purged.
type Purger func(Selection) (Purged, error)

// Resolver says what a selection stands for. It is called concurrently. The error
// is the one that a Purger has for it.
type Resolver func(Selection) (Selection, error)

const maxPurgeBytes = 8 << 10

// purge is for operators: in a pod, agents reach this listener too, and one of
// them must not be able to hinder the others.
func (h *Handler) purge(w http.ResponseWriter, r *http.Request) {
	if !h.isOperator(r) {
		writeJSON(w, http.StatusForbidden, h.operatorsOnly())
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxPurgeBytes)
	if err := r.ParseForm(); err != nil {
		writeJSON(w, http.StatusBadRequest, Problem{"the form cannot be read", purgeHint})
		return
	}
	purged, err := h.purgeForm(r.PostForm)
	if err != nil {
		status, problem := refusal(err)
		writeJSON(w, status, problem)
		return
	}
	body, err := json.Marshal(purged)
	if err != nil {
		writeJSON(w, http.StatusInternalServerError, Problem{Error: "purged; the result cannot be shown"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n')) // a reader that is gone is its own fault
}

func (h *Handler) purgeForm(form url.Values) (Purged, error) {
	selected, err := selection(form)
	if err != nil {
		return Purged{}, err
	}
	return h.cfg.Purge(selected)
}

// refusal is how a selection that means nothing is answered.
func refusal(err error) (status int, problem Problem) {
	wrong, ok := errors.AsType[*SelectionError](err)
	switch {
	case !ok:
		return http.StatusInternalServerError, Problem{"nothing was purged", "the broker's log may say why"}
	case wrong.Unknown:
		return http.StatusNotFound, Problem{wrong.Text, wrong.Hint}
	}
	return http.StatusBadRequest, Problem{wrong.Text, wrong.Hint}
}

const purgeHint = "send a form of agent, identity, user and scope, each once and with a value, or all=true alone"

// selection reads a form.
func selection(form url.Values) (Selection, error) {
	var s Selection
	fields := map[string]*string{"agent": &s.Agent, "identity": &s.Identity, "user": &s.User, "scope": &s.Scope}
	all := false
	for name, values := range form {
		field := fields[name]
		switch {
		case len(values) != 1 || values[0] == "":
			return s, &SelectionError{Text: "each of the form's fields has one value", Hint: purgeHint}
		case name == "all" && values[0] == "true":
			all = true
		case field == nil:
			return s, &SelectionError{Text: "the fields are agent, identity, user, scope and all=true", Hint: purgeHint}
		default:
			*field = values[0]
		}
	}
	if all == (s != Selection{}) {
		return s, &SelectionError{Text: "say what to purge: agent, identity, user, scope, or all=true alone", Hint: purgeHint}
	}
	return s, nil
}
