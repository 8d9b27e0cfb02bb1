package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const smallPolicy = `version: 1
tenant: 5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10
sources: {pod: {file: {path: /token}}}
identities:
  app: {application: {clientID: a1d4c0de-0000-4000-8000-00000000a9e7, source: pod}}
  fleet: {agent: {blueprintID: b1e90000-0000-4000-8000-00000000b1e9, agentIDs: [33333333-2222-4333-8444-555555555555, 44444444-2222-4333-8444-555555555555], source: pod}}
agents:
  demo:
    identities: [app, fleet]
    callers: [{tcp: {keyFile: /key}}]
    allow: {scopes: [graph]}
    onBehalfOf:
      allow: {scopes: [graph/User.Read]}
      users: {groups: [9b000000-0000-4000-8000-000000000002], roles: [Analyst], guests: true}
      clients: [f407e4d0-0000-4000-8000-00000000f407]
      scopes: [access]
      acrs: [c1]
      amr: [mfa, fido]
`

// TestExplainHearsEveryFlag: each flag about the user changes the decision, so
// that none is read and forgotten.
func TestExplainHearsEveryFlag(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	check(t, os.WriteFile(path, []byte(smallPolicy), 0o600))
	full := []string{
		"--client=F407E4D0-0000-4000-8000-00000000F407", "--groups=9B000000-0000-4000-8000-000000000002", "--roles=Reader,Analyst",
		"--scp=access", "--acrs=c1", "--amr=pwd", "--amr=mfa", "--identity=app",
	}
	explain := func(flags ...string) (explained, int) {
		t.Helper()
		args := append([]string{"explain", "--config", path, "--agent=demo", "--scope=https://graph.microsoft.com/User.Read", "--user=0be5e000-0000-4000-8000-0000000005e4", "--format=json"}, flags...)
		got := runWith("", args...)
		var x explained
		if err := json.Unmarshal([]byte(got.stdout), &x); err != nil || got.stderr != "" {
			t.Fatalf("%v: got %+v, want JSON alone: %v", flags, got, err)
		}
		return x, got.code
	}
	if x, code := explain(full...); !x.Allowed || code != exitOK || x.UserTenant != "5f0c7d52-6d5e-4d0f-9c64-3b8f7a1e2d10" || x.Identity != "app" {
		t.Fatalf("got %+v and code %d, want it allowed", x, code)
	}
	for flag, want := range map[string]string{
		"--client": "user_client_not_allowed", "--groups": "user_not_in_group", "--roles": "user_role_missing",
		"--scp": "user_scope_missing", "--acrs": "user_acrs_missing", "--amr": "user_amr_missing", "--identity": "identity_missing",
	} {
		var without []string
		for _, f := range full {
			if !strings.HasPrefix(f, flag+"=") {
				without = append(without, f)
			}
		}
		if x, code := explain(without...); x.Reason != want || x.Allowed || code != exitDenied {
			t.Errorf("without %s: got reason %q and code %d, want %q and %d", flag, x.Reason, code, want, exitDenied)
		}
	}
	if x, _ := explain(append(full[:len(full)-1:len(full)-1], "--identity=fleet/44444444-2222-4333-8444-555555555555")...); x.Member != "44444444-2222-4333-8444-555555555555" {
		t.Errorf("got member %q, want the fleet's", x.Member)
	}
}

// TestCheckExitCodes: scripts go by the code, whatever the format.
func TestCheckExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		check(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	warns, broken := write("warns.yaml", smallPolicy), write("broken.yaml", "version: 2\n")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{warns}, exitOK}, {[]string{warns, "--strict-warnings"}, exitError}, {[]string{broken}, exitError},
		{[]string{warns, "--format=json"}, exitOK}, {[]string{warns, "--strict-warnings", "--format=json"}, exitError}, {[]string{broken, "--format=json"}, exitError},
	} {
		got := runWith("", append([]string{"check", "--config"}, c.args...)...)
		if got.code != c.want {
			t.Errorf("%v: got code %d, want %d", c.args, got.code, c.want)
		}
		if strings.Contains(strings.Join(c.args, " "), "json") {
			var x checked
			if err := json.Unmarshal([]byte(got.stdout), &x); err != nil || x.OK != (c.want == exitOK) || got.stderr != "" {
				t.Errorf("%v: got %+v, want JSON alone that says ok: %t", c.args, got, c.want == exitOK)
			}
		}
	}
}
