package broker

import (
	"github.com/credfree/credfree/broker/policy"
)

// Reasons of failed issuances that neither the policy nor the exchange has.
const (
	ReasonCallerGone = "caller_gone"   // the agent did not wait for the answer
	ReasonPurged     = "purged"        // revoked while it was being fetched
	ReasonShutdown   = "shutting_down" // the broker is stopping
	ReasonInternal   = "internal"
)

// Denied says that the broker said no: Entra was not asked. It is another
// type than *exchange.Error so that nobody confuses the two.
type Denied struct {
	ID     string // of the issuance
	Agent  string // "" when the caller is nobody
	Reason policy.Reason
	Rule   string // path in the policy file of the rule that decided
	Hint   string // what to change, and where
}

func (d *Denied) Error() string {
	who := "caller"
	if d.Agent != "" {
		who = "agent " + d.Agent
	}
	text := who + " denied: " + string(d.Reason)
	if d.Rule != "" {
		text += " (" + d.Rule + ")"
	}
	return text
}

// AuditError says that an issuance could not be recorded, and that there is
// no token for that reason.
type AuditError struct{ Err error }

func (e *AuditError) Error() string { return "the audit log cannot be written: " + e.Err.Error() }

// Unwrap returns the sink's error.
func (e *AuditError) Unwrap() error { return e.Err }
