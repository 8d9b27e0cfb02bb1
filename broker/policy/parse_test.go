package policy_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/credfree/credfree/broker/policy"
)

func TestParse(t *testing.T) {
	got := parse(t, example)
	want := &policy.Policy{
		Tenant:  "8a0c5b0e-0000-4000-8000-0123456789ab",
		Cloud:   policy.Cloud{Name: "public", Authority: "https://login.microsoftonline.com", Audience: "api://AzureADTokenExchange"},
		Roles:   map[string][]string{},
		APIs:    map[string]policy.API{},
		Sources: map[string]policy.Source{"pod": {File: &policy.FileSource{Path: "/var/run/token"}}},
		Identities: map[string]policy.Identity{
			"billing": {Tenant: "8a0c5b0e-0000-4000-8000-0123456789ab", Application: &policy.Application{ClientID: billingID, Source: "pod"}},
			"audit":   {Tenant: "8a0c5b0e-0000-4000-8000-0123456789ab", Application: &policy.Application{ClientID: "99999999-2222-3333-4444-555555555555", Source: "pod"}},
		},
		Agents: map[string]*policy.Agent{
			"researcher": {
				Name: "researcher", Owner: "team@contoso.com", Expires: time.Date(2027, 7, 1, 0, 0, 0, 0, time.UTC),
				Default: "billing", Identities: []string{"billing"},
				Callers: []policy.Caller{
					{Socket: "researcher.sock", UIDs: []uint32{10001, 10002}},
					{TCP: true, UIDs: []uint32{10001}},
					{TCP: true, KeyFile: "/keys/researcher"},
				},
				Scopes: []string{graph, mailRead}, RawToken: true,
			},
			"writer": {
				Name: "writer", Default: "audit", Identities: []string{"billing", "audit"},
				Callers: []policy.Caller{
					{Socket: "/run/writer.sock"},
					{TCP: true, UIDs: []uint32{10003}, KeyFile: "/etc/credfree/keys/writer"},
				},
				Scopes: []string{search, orders}, RawToken: true,
			},
			"chooser": {
				Name: "chooser", Identities: []string{"billing", "audit"},
				Callers: []policy.Caller{{TCP: true, UIDs: []uint32{10009}}},
				Scopes:  []string{search}, RawToken: true,
			},
		},
		Revision: fmt.Sprintf("%x", sha256.Sum256([]byte(example)))[:12],
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(policy.Policy{}, policy.Agent{}), cmpopts.IgnoreFields(policy.Policy{}, "Warnings"),
		cmpopts.IgnoreFields(policy.Cloud{}, "Resources")); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/run/writer.sock", "researcher.sock"}, got.Sockets()); diff != "" {
		t.Errorf("sockets (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/etc/credfree/keys/writer", "/keys/researcher"}, got.KeyFiles()); diff != "" {
		t.Errorf("key files (-want +got):\n%s", diff)
	}
}

func TestOnlyIdentityIsTheDefault(t *testing.T) {
	p := parse(t, head+"agents: {a: {identities: [app], callers: [{tcp: {uids: [1]}}], allow: {scopes: ["+graph+"]}}}\n")
	if d := p.Decide(policy.Request{Peer: tcp(1), Scope: graph}); !d.Allowed || d.Identity != "app" {
		t.Errorf("got %+v, want it allowed as app", d)
	}
}

func TestClouds(t *testing.T) {
	for _, test := range []struct {
		fields string
		want   policy.Cloud
	}{
		{"", policy.Cloud{Name: "public", Authority: "https://login.microsoftonline.com", Audience: "api://AzureADTokenExchange"}},
		{"cloud: usgov", policy.Cloud{Name: "usgov", Authority: "https://login.microsoftonline.us", Audience: "api://AzureADTokenExchangeUSGov"}},
		{"cloud: usgov-dod", policy.Cloud{Name: "usgov-dod", Authority: "https://login.microsoftonline.us", Audience: "api://AzureADTokenExchangeUSGov"}},
		{"cloud: bleu\naudience: api://Bleu", policy.Cloud{Name: "bleu", Authority: "https://login.sovcloud-identity.fr", Audience: "api://Bleu"}},
		{"cloud: delos\naudience: api://Delos", policy.Cloud{Name: "delos", Authority: "https://login.sovcloud-identity.de", Audience: "api://Delos"}},
		{"cloud: govsg\naudience: api://GovSG", policy.Cloud{Name: "govsg", Authority: "https://login.sovcloud-identity.sg", Audience: "api://GovSG"}},
		{"cloud: china", policy.Cloud{Name: "china", Authority: "https://login.partner.microsoftonline.cn", Audience: "api://AzureADTokenExchangeChina"}},
		{
			"cloud: custom\nauthority: https://127.0.0.1:8443\ncaFile: tls/../ca.pem",
			policy.Cloud{Name: "custom", Authority: "https://127.0.0.1:8443", CAFile: "/etc/credfree/ca.pem", Audience: "api://AzureADTokenExchange"},
		},
		{
			"cloud: custom\nauthority: https://[::1]\naudience: api://Other\ncaFile: /ca.pem",
			policy.Cloud{Name: "custom", Authority: "https://[::1]", CAFile: "/ca.pem", Audience: "api://Other"},
		},
	} {
		if diff := cmp.Diff(test.want, parse(t, head+test.fields).Cloud, cmpopts.IgnoreFields(policy.Cloud{}, "Resources")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.fields, diff)
		}
	}
}

// TestRevisionFollowsTheFile: even a comment makes another revision.
func TestRevisionFollowsTheFile(t *testing.T) {
	a, b, again := parse(t, head).Revision, parse(t, head+"#").Revision, parse(t, head).Revision
	if a == b || a != again || len(a) != 12 || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("got the revisions %q, %q and %q", a, b, again)
	}
}

// TestPlainTextVariants: quotation marks, a byte order mark and the line ends
// of Windows change nothing.
func TestPlainTextVariants(t *testing.T) {
	want := parse(t, head)
	for name, text := range map[string]string{
		"quoted":          strings.Replace(head, "tenant: contoso.com", `"tenant": 'contoso.com'`, 1),
		"byte order mark": "\ufeff" + strings.Replace(head, "version", `"version"`, 1),
		"windows":         strings.ReplaceAll(head, "\n", "\r\n"),
	} {
		opts := []cmp.Option{cmpopts.IgnoreUnexported(policy.Policy{}), cmpopts.IgnoreFields(policy.Policy{}, "Revision", "Warnings")}
		if diff := cmp.Diff(want, parse(t, text), opts...); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
