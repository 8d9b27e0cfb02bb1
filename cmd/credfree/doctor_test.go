package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/entratest"
)

// clinic is an emulator with a policy for the doctor.
type clinic struct {
	*lab
	policy string
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	lab, err := startLab(labConfig{dir: t.TempDir(), workloadLifetime: time.Hour})
	check(t, err)
	t.Cleanup(func() { check(t, lab.host.Close()) })
	return &clinic{lab: lab, policy: `version: 1
tenant: ` + entratest.DemoTenantID + `
cloud: custom
authority: ` + lab.host.URL + `
caFile: ` + quoteYAML(filepath.Join(lab.dir, "ca.pem")) + `
sources:
  pod: {file: {path: ` + quoteYAML(filepath.Join(lab.dir, "workload-token")) + `}}
identities:
  app: {application: {clientID: ` + entratest.DemoClientID + `, source: pod}}
  agent: {agent: {blueprintID: ` + entratest.DemoBlueprintClientID + `, agentID: ` + entratest.DemoAgentIdentityID + `, source: pod}}
  user: {agentUser: {blueprintID: ` + entratest.DemoBlueprintClientID + `, agentID: ` + entratest.DemoAgentIdentityID + `, username: ` + entratest.DemoAgentUserName + `, source: pod}}
agents: {}
`}
}

// workload replaces the workload token.
func (c *clinic) workload(t *testing.T, w entratest.Workload) {
	t.Helper()
	token, err := c.host.Issuer.WorkloadToken(w)
	check(t, err)
	check(t, c.write("workload-token", token))
}

func (c *clinic) replace(t *testing.T, old, new string) {
	t.Helper()
	if !strings.Contains(c.policy, old) {
		t.Fatalf("the policy has no %q", old)
	}
	c.policy = strings.ReplaceAll(c.policy, old, new)
}

// doctor prints a report, and looks for the workload token in all of it. Nothing
// of the flags is tested here: their parser cannot be used twice at once.
func (c *clinic) doctor(t *testing.T, options doctorOptions) (code int, stdout, stderr string) {
	t.Helper()
	options.config = filepath.Join(c.dir, "doctor.yaml")
	check(t, c.write("doctor.yaml", c.policy))
	var out, errs bytes.Buffer
	code = report(&errs, diagnose(t.Context(), stdio{out: &out, err: &errs}, options))
	if token, err := os.ReadFile(filepath.Join(c.dir, "workload-token")); err == nil {
		for _, form := range everyForm(string(token)) {
			if form != "" && strings.Contains(out.String()+errs.String(), form) {
				t.Errorf("the workload token is in what the doctor prints")
			}
		}
	}
	if strings.Contains(out.String(), "eyJ") {
		t.Errorf("a token is in what the doctor prints:\n%s", out.String())
	}
	return code, out.String(), errs.String()
}

// diagnose reports on one identity, as for a script.
func (c *clinic) diagnose(t *testing.T, options doctorOptions) (int, findings) {
	t.Helper()
	options.format = "json"
	code, out, errs := c.doctor(t, options)
	var found diagnosis
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found.Identities) != 1 || errs != "" {
		t.Fatalf("got %q and %q (%v), want the JSON of one identity", out, errs, err)
	}
	return code, found.Identities[0]
}

// states are how the steps went, in short.
func (f findings) states() string {
	var states []string
	for _, s := range f.Steps {
		states = append(states, s.Name+" "+string(s.State))
	}
	return strings.Join(states, ", ")
}

// says reports whether the step says text, in its detail, its hint or its notes.
func (f findings) says(name, text string) bool {
	at := slices.IndexFunc(f.Steps, func(s step) bool { return s.Name == name })
	return at >= 0 && strings.Contains(f.Steps[at].Detail+"\n"+f.Steps[at].Hint+"\n"+strings.Join(f.Steps[at].Notes, "\n"), text)
}

func TestDoctorFindsNothing(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	for identity, want := range map[string]string{
		"app":   "source ok, claims ok, issuer ok, authority ok, token ok",
		"agent": "source ok, claims ok, issuer ok, authority ok, blueprint token ok, token ok",
		"user":  "source ok, claims ok, issuer ok, authority ok, blueprint token ok, agent token ok, token ok",
	} {
		before := c.host.Server.TokenRequests()
		code, found := c.diagnose(t, doctorOptions{identity: identity})
		if code != exitOK || !found.OK || found.states() != want || found.Credential != nil {
			t.Errorf("%s: got exit code %d, ok %t, %s, credential %v; want 0, true, %s, none", identity, code, found.OK, found.states(), found.Credential, want)
		}
		// One request for each leg, and none of them twice.
		if got, legs := c.host.Server.TokenRequests()-before, strings.Count(want, "token ok"); got != legs {
			t.Errorf("%s: got %d token requests, want %d", identity, got, legs)
		}
		if !found.says("claims", entratest.DemoSubject) || !found.says("token", "https://graph.microsoft.com/.default") {
			t.Errorf("%s: the steps lack their facts: %+v", identity, found.Steps)
		}
	}
	if code, out, errs := c.doctor(t, doctorOptions{format: "text"}); code != exitOK || errs != "" || !strings.Contains(out, "3 identities, 3 well") || strings.Contains(out, "az ad app") {
		t.Errorf("got %d, %q and %q, want 0 and three that are well", code, out, errs)
	}
}

func TestDoctorFindings(t *testing.T) {
	t.Parallel()
	const before = "source ok, claims ok, issuer ok, authority ok, "
	for name, test := range map[string]struct {
		identity   string
		change     func(*testing.T, *clinic)
		options    doctorOptions
		code       int
		states     string
		step, says string
		credential string // the subject in it; "" for none
	}{
		"another service account": {"app", func(t *testing.T, c *clinic) {
			c.workload(t, entratest.Workload{Parameters: map[string]string{"serviceaccount": "other"}})
		}, doctorOptions{}, exitEntra, before + "token failed", "token", "AADSTS700213", "system:serviceaccount:agents:other"},
		"a service account in capitals": {"agent", func(t *testing.T, c *clinic) {
			c.workload(t, entratest.Workload{Parameters: map[string]string{"serviceaccount": "DEMO"}})
		}, doctorOptions{}, exitEntra, before + "blueprint token failed, token skipped", "blueprint token", "but for its case", "system:serviceaccount:agents:DEMO"},
		"another service account, for an agent": {"user", func(t *testing.T, c *clinic) {
			c.workload(t, entratest.Workload{Parameters: map[string]string{"serviceaccount": "other"}})
		}, doctorOptions{}, exitEntra, before + "blueprint token failed, agent token skipped, token skipped", "agent token", "there is no blueprint token", "system:serviceaccount:agents:other"},
		"an agent that is not the blueprint's": {"user", func(t *testing.T, c *clinic) {
			c.replace(t, "agentID: "+entratest.DemoAgentIdentityID, "agentID: 00000000-1111-4111-8111-000000000000")
		}, doctorOptions{}, exitEntra, before + "blueprint token ok, agent token failed, token skipped", "token", "there is no agent token", entratest.DemoSubject},
		"an agent user that does not exist": {"user", func(t *testing.T, c *clinic) { c.replace(t, entratest.DemoAgentUserName, "nobody@demo.example") },
			doctorOptions{}, exitEntra, before + "blueprint token ok, agent token ok, token failed", "token", "50034", ""},
		"nothing is configured at Entra": {"app", func(t *testing.T, c *clinic) {
			c.replace(t, entratest.DemoClientID, "00000000-1111-4111-8111-000000000000")
		}, doctorOptions{}, exitEntra, before + "token failed", "token", "does not exist in tenant", entratest.DemoSubject},
		"no file": {"agent", func(t *testing.T, c *clinic) { check(t, os.Remove(filepath.Join(c.dir, "workload-token"))) },
			doctorOptions{}, exitError, "source failed, claims skipped, issuer skipped, authority ok, blueprint token skipped, token skipped", "source", "workload-token", ""},
		"an expired token": {"app", func(t *testing.T, c *clinic) { c.workload(t, entratest.Workload{Lifetime: -time.Minute}) },
			doctorOptions{}, exitError, "source ok, claims failed, issuer ok, authority ok, token skipped", "claims", "clock", ""},
		"an expired token, and --credentials": {"app", func(t *testing.T, c *clinic) { c.workload(t, entratest.Workload{Lifetime: -time.Minute}) },
			doctorOptions{credentials: true}, exitError, "source ok, claims failed, issuer ok, authority ok, token skipped", "token", "Entra would refuse", entratest.DemoSubject},
		"another audience": {"app", func(t *testing.T, c *clinic) {
			c.workload(t, entratest.Workload{Audience: "https://kubernetes.default.svc"})
		},
			doctorOptions{}, exitError, "source ok, claims failed, issuer ok, authority ok, token skipped", "claims", "serviceAccountToken.audience", ""},
		"another tenant": {"app", func(t *testing.T, c *clinic) {
			c.replace(t, "tenant: "+entratest.DemoTenantID, "tenant: 00000000-1111-4111-8111-000000000000")
		}, doctorOptions{}, exitEntra, "source ok, claims ok, issuer ok, authority failed, token skipped", "authority", "AADSTS90002", ""},
		"no authority": {"app", func(t *testing.T, c *clinic) { check(t, c.host.Pause()) },
			doctorOptions{}, exitError, "source ok, claims ok, issuer ok, authority failed, token skipped", "authority", "cannot be reached", ""},
		"a resource that the tenant has not": {"app", func(*testing.T, *clinic) {}, doctorOptions{scope: "https://nowhere.example/.default"},
			exitEntra, before + "token failed", "token", "AADSTS500011", ""},
		"a scope that cannot be meant": {"agent", func(*testing.T, *clinic) {}, doctorOptions{scope: "api://AzureADTokenExchange/.default"},
			exitError, before + "blueprint token skipped, token failed", "token", "not handed out", ""},
		"an issuer that is not there": {"app", func(t *testing.T, c *clinic) {
			c.workload(t, entratest.Workload{Claims: map[string]any{"iss": "https://127.0.0.1:1/"}})
		}, doctorOptions{}, exitEntra, "source ok, claims ok, issuer warning, authority ok, token failed", "claims", "ends with a slash", entratest.DemoSubject},
		"throttled": {"app", func(_ *testing.T, c *clinic) {
			c.host.Server.SetBehavior(entratest.Behavior{Status: 429, RetryAfter: "7"})
		},
			doctorOptions{}, exitEntra, before + "token failed", "token", "throttling", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinic(t)
			test.change(t, c)
			test.options.identity = test.identity
			code, found := c.diagnose(t, test.options)
			if code != test.code || found.OK || found.states() != test.states {
				t.Errorf("got exit code %d, ok %t, %s; want %d, false, %s", code, found.OK, found.states(), test.code, test.states)
			}
			if !found.says(test.step, test.says) {
				t.Errorf("the step %s does not say %q: %+v", test.step, test.says, found.Steps)
			}
			subject := ""
			if found.Credential != nil {
				subject = found.Credential.Subject
			}
			if subject != test.credential {
				t.Errorf("got a credential for %q, want one for %q", subject, test.credential)
			}
			for _, s := range found.Steps {
				if s.State == stepFailed && s.Hint == "" {
					t.Errorf("the step %s failed and has no hint", s.Name)
				}
			}
		})
	}
}

// The credential is printed where Entra says that it has no such one, or no such
// application.
func TestDoctorPrintsCredentialFor(t *testing.T) {
	for code, want := range map[int]bool{
		70021: true, 700211: true, 700212: true, 700213: true, 7002137: true, 7002138: true, 70025: true, 700016: true, 7000229: true,
		65001: false, 53003: false, 500011: false, 90002: false, 700024: false, 700027: false, 0: false,
	} {
		if got := aboutFederation(step{Codes: []int{1, code}}); got != want {
			t.Errorf("%d: got %t, want %t", code, got, want)
		}
	}
}

// What failed here comes before what Entra refused, whichever identity is first.
func TestDoctorExitCode(t *testing.T) {
	here, entra, well := findings{Steps: []step{failed("", "", "")}}, findings{Steps: []step{{State: stepFailed, refused: true}}}, findings{Steps: []step{doubted("", "", "")}}
	for _, test := range []struct {
		found []findings
		want  int
	}{{nil, exitOK}, {[]findings{well}, exitOK}, {[]findings{well, entra}, exitEntra}, {[]findings{entra, here}, exitError}, {[]findings{here, entra}, exitError}} {
		if got := report(&bytes.Buffer{}, diagnosis{test.found}.outcome()); got != test.want {
			t.Errorf("%v: got %d, want %d", test.found, got, test.want)
		}
	}
}

func TestDoctorText(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	c.replace(t, entratest.DemoBlueprintClientID, "00000000-1111-4111-8111-000000000000")
	code, out, errs := c.doctor(t, doctorOptions{format: "text"})
	if code != exitEntra || errs != "" {
		t.Errorf("got %d and %q, want 4 and nothing", code, errs)
	}
	for text, times := range map[string]int{
		"FAIL     blueprint token": 2, "skipped  agent token": 1, "ok       token ": 1, "hint: application 00000000-1111-4111-8111-000000000000 does not exist": 2,
		"3 identities, 1 well": 1,
		// The agent and its user need one and the same.
		"az rest --method POST": 1, "It needs the federated identity credential that agent needs.": 1,
		"audience  \"api://AzureADTokenExchange\"": 1, credentialPage: 1, "# Terraform": 1, "# Bicep": 1, "# Microsoft Graph": 1,
		"note: the issuer has an address that only its own network knows": 3,
	} {
		if got := strings.Count(out, text); got != times {
			t.Errorf("got %q %d times, want %d, in\n%s", text, got, times, out)
		}
	}
}

func TestDoctorSelects(t *testing.T) {
	t.Parallel()
	c := newClinic(t)
	const other = "00000000-1111-4111-8111-000000000000"
	c.replace(t, "agentID: "+entratest.DemoAgentIdentityID+", source", "agentIDs: ["+entratest.DemoAgentIdentityID+", "+other+"], source")
	for only, want := range map[string]string{
		"":                                       "agent/" + entratest.DemoAgentIdentityID + " agent/" + other + " app user",
		"agent":                                  "agent/" + entratest.DemoAgentIdentityID + " agent/" + other,
		"agent/" + other:                         "agent/" + other,
		"user/" + entratest.DemoAgentUserName:    "user",
		"app":                                    "app",
		"agent/" + entratest.DemoAgentIdentityID: "agent/" + entratest.DemoAgentIdentityID,
	} {
		p, err := policy.Parse("credfree.yaml", []byte(c.policy))
		check(t, err)
		d, err := newDoctor(p, func(string) string { return "" })
		check(t, err)
		found, err := d.walk(t.Context(), only)
		check(t, err)
		var names []string
		for _, f := range found.Identities {
			names = append(names, f.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: got %s, want %s", only, got, want)
		}
	}
	for _, only := range []string{"nobody", "app/x"} {
		if code, out, errs := c.doctor(t, doctorOptions{identity: only, format: "text"}); code != exitError || out != "" || !strings.Contains(errs, "hint: it has agent, app, user") {
			t.Errorf("%s: got %d, %q and %q, want 1, nothing and the names", only, code, out, errs)
		}
	}
	if code, out, _ := c.doctor(t, doctorOptions{format: "yaml"}); code != exitUsage || out != "" {
		t.Errorf("got %d and %q, want 2 and nothing", code, out)
	}
}
