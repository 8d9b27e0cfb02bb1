package clients

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	msalerrors "github.com/AzureAD/microsoft-authentication-library-for-go/apps/errors"
)

// newAgent is an agent identity whose client assertions its blueprint gets.
func newAgent(t *testing.T, path string) confidential.Client {
	t.Helper()
	blueprint := newMSAL(t, lab.Tenant, lab.Blueprint, freshAssertion())
	return newMSAL(t, lab.Tenant, lab.Agent, confidential.NewCredFromAssertionCallback(
		func(ctx context.Context, _ confidential.AssertionRequestOptions) (string, error) {
			r, err := blueprint.AcquireTokenByCredential(ctx, []string{lab.Exchange.Default}, confidential.WithFMIPath(path))
			return r.AccessToken, err
		}))
}

func TestMSALAgentActsForItself(t *testing.T) {
	c := newAgent(t, lab.Agent)
	n := requests(func() {
		for range 2 {
			result, err := c.AcquireTokenByCredential(t.Context(), []string{lab.Graph.Default})
			if err != nil {
				t.Fatal(err)
			}
			claims := verifiedFor(t, result.AccessToken, lab.Graph, lab.Agent)
			if claims["idtyp"] != "app" || claims["oid"] != lab.Agent || claims["xms_par_app_azp"] != lab.Blueprint {
				t.Errorf("got idtyp %v, oid %v, xms_par_app_azp %v, want the agent's own token", claims["idtyp"], claims["oid"], claims["xms_par_app_azp"])
			}
		}
	})
	if n != 2 {
		t.Errorf("got %d token requests for two acquisitions, want one of the blueprint and one of the agent", n)
	}
}

func TestMSALAgentOnBehalfOf(t *testing.T) {
	user, err := lab.MintUserToken(lab.Blueprint)
	if err != nil {
		t.Fatal(err)
	}
	result, err := newAgent(t, lab.Agent).AcquireTokenOnBehalfOf(t.Context(), user, []string{lab.Graph.Scope})
	if err != nil {
		t.Fatal(err)
	}
	checkAgentUser(t, result, lab.User, lab.Graph.Scope)
}

func TestMSALAgentUser(t *testing.T) {
	c := newAgent(t, lab.Agent)
	t2, err := c.AcquireTokenByCredential(t.Context(), []string{lab.Exchange.Default})
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []confidential.AcquireByUserFICOption{confidential.WithUserFICUsername(lab.AgentUserName), confidential.WithUserObjectID(lab.AgentUser)} {
		result, err := c.AcquireTokenByUserFederatedIdentityCredential(t.Context(), []string{lab.Graph.Scope}, t2.AccessToken, option)
		if err != nil {
			t.Fatal(err)
		}
		checkAgentUser(t, result, lab.AgentUser, lab.Graph.Scope)
		n := requests(func() {
			silent, err := c.AcquireTokenSilent(t.Context(), []string{lab.Graph.Scope}, confidential.WithSilentAccount(result.Account))
			if err != nil {
				t.Fatal(err)
			}
			checkAgentUser(t, silent, lab.AgentUser, lab.Graph.Scope)
		})
		if n != 0 {
			t.Errorf("got %d token requests for a cached token, want none", n)
		}
	}
}

// checkAgentUser checks a user's token that was issued to the agent.
func checkAgentUser(t *testing.T, result confidential.AuthResult, user, scope string) {
	t.Helper()
	claims := verifiedFor(t, result.AccessToken, lab.Graph, lab.Agent)
	if name := scope[strings.LastIndexByte(scope, '/')+1:]; claims["scp"] != name || claims["oid"] != user || claims["idtyp"] != "user" || claims["xms_par_app_azp"] != lab.Blueprint {
		t.Errorf("got scp %v, oid %v, idtyp %v, xms_par_app_azp %v, want %s for %s", claims["scp"], claims["oid"], claims["idtyp"], claims["xms_par_app_azp"], name, user)
	}
	if result.Account.HomeAccountID != user+"."+lab.Tenant {
		t.Errorf("got account %q, want that of %s", result.Account.HomeAccountID, user)
	}
}

// TestMSALAgentRefusals has the mistakes of each leg.
func TestMSALAgentRefusals(t *testing.T) {
	user := userToken(t)
	for name, c := range map[string]struct {
		ask  func(context.Context) error
		code int
	}{
		"blueprint wants a token for Graph": {func(ctx context.Context) error {
			_, err := newMSAL(t, lab.Tenant, lab.Blueprint, freshAssertion()).AcquireTokenByCredential(ctx, []string{lab.Graph.Default})
			return err
		}, 82001},
		"token of another agent": {func(ctx context.Context) error {
			_, err := newAgent(t, lab.User).AcquireTokenByCredential(ctx, []string{lab.Graph.Default})
			return err
		}, 7002137},
		"workload token instead of the blueprint's": {func(ctx context.Context) error {
			_, err := newMSAL(t, lab.Tenant, lab.Agent, freshAssertion()).AcquireTokenByCredential(ctx, []string{lab.Graph.Default})
			return err
		}, 700211},
		"user token for somebody else": {func(ctx context.Context) error {
			_, err := newAgent(t, lab.Agent).AcquireTokenOnBehalfOf(ctx, user, []string{lab.Graph.Scope})
			return err
		}, 500131},
		"user_fic by an application": {func(ctx context.Context) error {
			_, err := newMSAL(t, lab.Tenant, lab.Client, freshAssertion()).AcquireTokenByUserFederatedIdentityCredential(ctx, []string{lab.Graph.Scope}, "T2", confidential.WithUserObjectID(lab.AgentUser))
			return err
		}, 70003},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.ask(t.Context())
			var call msalerrors.CallErr
			if !errors.As(err, &call) || !strings.Contains(err.Error(), "AADSTS"+strconv.Itoa(c.code)+":") {
				t.Errorf("got error %v, want AADSTS%d", err, c.code)
			}
		})
	}
}
