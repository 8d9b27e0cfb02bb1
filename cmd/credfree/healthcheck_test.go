package main

import (
	"errors"
	"slices"
	"testing"

	"github.com/credfree/credfree/broker/admin"
)

// Why a broker is not ready are the parts that make it so, and not those that are only
// reported.
func TestNotReadyNamesWhatHoldsItBack(t *testing.T) {
	err := notReady(admin.State{Parts: map[string]admin.PartState{
		"agents": {Error: "a has expired", Hint: "ask its owner", ReportOnly: true},
		"audit":  {Error: "no space left on device", Hint: "make room"},
		"policy": {OK: true},
	}})
	got, ok := errors.AsType[*failure](err)
	if !ok || got.Error() != "audit: no space left on device" || !slices.Equal(got.hints, []string{"make room"}) {
		t.Errorf("got %+v, want the audit log alone", err)
	}
}
