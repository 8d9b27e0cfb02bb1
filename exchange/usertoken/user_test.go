package usertoken_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credfree/credfree/exchange/usertoken"
)

func TestGuest(t *testing.T) {
	v := newVerifier(t, newPublisher())
	v1 := []any{"ver", "1.0", "iss", "https://sts.windows.net/" + tenant + "/", "aud", apiV1, "azp", nil, "appid", frontend}
	for name, c := range map[string]struct {
		claims []any
		want   bool
	}{
		"no sign":                          {nil, false},
		"acct 0":                           {[]any{"acct", 0}, false},
		"acct 1":                           {[]any{"acct", 1}, true},
		"acct of another kind":             {[]any{"acct", "0"}, true},
		"acct null":                        {[]any{"acct", []any(nil)}, true},
		"own v2 issuer":                    {[]any{"idp", authority + "/" + tenant + "/v2.0"}, false},
		"own v1 issuer":                    {[]any{"idp", "https://sts.windows.net/" + tenant + "/"}, false},
		"own v1 issuer, v1":                {append(slices.Clip(v1), "idp", "https://sts.windows.net/"+tenant+"/"), false},
		"another tenant":                   {[]any{"idp", "https://sts.windows.net/" + otherTenant + "/"}, true},
		"another tenant, v1":               {append(slices.Clip(v1), "idp", "https://sts.windows.net/"+otherTenant+"/"), true},
		"personal account":                 {[]any{"idp", "live.com"}, true},
		"one-time passcode":                {[]any{"idp", "mail"}, true},
		"member in name, signs in outside": {[]any{"acct", 0, "idp", "https://sts.windows.net/" + otherTenant + "/"}, true},
		"guest who signs in here":          {[]any{"acct", 1, "idp", "https://sts.windows.net/" + tenant + "/"}, true},
		"relation of a member":             {[]any{"xms_idrel", "1 30"}, false},
		"relation of a guest":              {[]any{"xms_idrel", "20 5", "acct", 0}, true},
		"relation 15":                      {[]any{"xms_idrel", "15 51"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verified(t, v, sign(t, header(), good(c.claims...))).Guest; got != c.want {
				t.Errorf("Guest = %v, want %v", got, c.want)
			}
		})
	}
}

func TestGroups(t *testing.T) {
	v := newVerifier(t, newPublisher())
	two := []string{group(1), "ops", strings.ToUpper(group(10))}
	for name, c := range map[string]struct {
		claims  []any
		want    []string
		overage bool
	}{
		"none":                    {nil, nil, false},
		"two, and a name":         {[]any{"groups", two}, []string{group(1), group(10)}, false},
		"one as text":             {[]any{"groups", group(1)}, []string{group(1)}, false},
		"elsewhere":               {[]any{"_claim_names", map[string]any{"groups": "src1"}}, nil, true},
		"here and elsewhere":      {[]any{"_claim_names", map[string]any{"groups": "src1"}, "groups", two}, nil, true},
		"another claim elsewhere": {[]any{"_claim_names", map[string]any{"pictures": "src1"}, "groups", two}, []string{group(1), group(10)}, false},
		"implicit flow":           {[]any{"hasgroups", true, "groups", two}, nil, true},
		"implicit flow, as text":  {[]any{"hasgroups", "true"}, nil, true},
		"implicit flow, none":     {[]any{"hasgroups", false, "groups", two}, []string{group(1), group(10)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := verified(t, v, sign(t, header(), good(c.claims...)))
			if diff := cmp.Diff(c.want, got.Groups); diff != "" || got.GroupsOverage != c.overage {
				t.Errorf("GroupsOverage = %v, want %v; groups (-want +got):\n%s", got.GroupsOverage, c.overage, diff)
			}
		})
	}
}

// Ids are compared with those of a policy, which are in lower case.
func TestIDsAreLowerCase(t *testing.T) {
	upper := strings.ToUpper(tenant)
	p := newPublisher()
	v := newVerifier(t, p)
	got := verified(t, v, sign(t, header("typ", "jwt"), good("tid", upper, "iss", authority+"/"+upper+"/v2.0", "aud", "API://"+strings.ToUpper(apiV2), "oid", strings.ToUpper(userID), "azp", strings.ToUpper(frontend))))
	if got.Tenant != tenant || got.ObjectID != userID || got.Client != frontend {
		t.Errorf("got tenant %s, user %s, client %s in capitals", got.Tenant, got.ObjectID, got.Client)
	}
	if _, err := v.Verify(t.Context(), sign(t, header(), good()), usertoken.Expectation{Tenants: []string{upper}, Audiences: []string{strings.ToUpper(apiV2)}}); err != nil {
		t.Errorf("expected in capitals: %v", err)
	}
	p.wantFetches(t, 1) // it is one tenant, however it is written
}

// An agent's own user has its object id as subject, and is a user for all that.
func TestAgentUser(t *testing.T) {
	v := newVerifier(t, newPublisher())
	verified(t, v, sign(t, header(), good("sub", userID, "idtyp", "user", "xms_sub_fct", "13 3")))
}

func TestV1Issuers(t *testing.T) {
	for _, c := range []struct{ authority, configured, want string }{
		{"https://login.microsoftonline.com", "", "https://sts.windows.net"},
		{"https://login.microsoftonline.us", "", "https://sts.windows.net"},
		{"https://login.partner.microsoftonline.cn", "", "https://sts.chinacloudapi.cn"},
		{"https://login.entra.test", "https://sts.entra.test:8443", "https://sts.entra.test:8443"},
	} {
		p := newPublisher()
		v, err := usertoken.New(usertoken.Config{Authority: c.authority, V1Issuer: c.configured, Transport: p})
		if err != nil {
			t.Fatal(err)
		}
		token := func(origin string) string {
			return sign(t, header(), good("ver", "1.0", "iss", origin+"/"+tenant+"/", "aud", apiV1, "appid", frontend))
		}
		for _, origin := range []string{"https://sts.windows.net", "https://sts.chinacloudapi.cn", "https://sts.entra.test:8443"} {
			_, err := v.Verify(t.Context(), token(origin), usertoken.Expectation{Tenants: ours.Tenants}) // stops at the audience
			want := usertoken.WrongIssuer
			if origin == c.want {
				want = usertoken.WrongAudience
			}
			wantProblem(t, err, want)
		}
		v.Close()
	}
}

func TestNewReportsAllProblems(t *testing.T) {
	v, err := usertoken.New(usertoken.Config{Authority: "http://login.example", V1Issuer: "https://sts.example/"})
	if v != nil || err == nil {
		t.Fatalf("New = %v, %v, want only an error", v, err)
	}
	for _, want := range []string{"http://login.example", "https://sts.example/", "transport"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
	for _, bad := range []string{"", "login.example", "https://", "https://login.example/", "https://Login.example", "https://u@login.example", "https://login.example?x", "https://login.example#x"} {
		if _, err := usertoken.New(usertoken.Config{Authority: bad, Transport: newPublisher()}); err == nil {
			t.Errorf("the authority %q was taken", bad)
		}
	}
}
