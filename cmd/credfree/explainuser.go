package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/credfree/credfree/broker/policy"
	"github.com/credfree/credfree/exchange/usertoken"
)

// claimFlags describe a user that is given by --user, as a token would.
var claimFlags = []string{"groups", "roles", "client", "guest", "scp", "acrs", "amr"}

func userFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "on-behalf-of", Usage: "it asks on behalf of a user"},
		&cli.StringFlag{Name: "user-token", Usage: "`FILE` with the user's access token, which is verified; - reads standard input"},
		&cli.StringFlag{Name: "user", Usage: "`TENANT/OBJECT-ID` of a user to suppose, with the claims that follow; the tenant may be left out"},
		&cli.StringSliceFlag{Name: "groups", Usage: "object `IDS` of the user's groups"},
		&cli.StringSliceFlag{Name: "roles", Usage: "the user's app `ROLES`"},
		&cli.StringFlag{Name: "client", Usage: "client `ID` of the app that the user's token was issued to (azp, appid)"},
		&cli.BoolFlag{Name: "guest", Usage: "the user is a guest of the tenant"},
		&cli.StringSliceFlag{Name: "scp", Usage: "delegated `SCOPES` of the user's token"},
		&cli.StringSliceFlag{Name: "acrs", Usage: "authentication `CONTEXTS` that the user's sign-in has met"},
		&cli.StringSliceFlag{Name: "amr", Usage: "authentication `METHODS` that the user's sign-in has used"},
	}
}

// askedUser is the user that an explanation is about.
type askedUser struct {
	onBehalfOf bool
	user       *policy.User // supposed
	token      string       // to be verified
}

// userOf reads the flags about the user.
func userOf(c *cli.Context, p *policy.Policy) (askedUser, error) {
	file, id := c.String("user-token"), c.String("user")
	asked := askedUser{onBehalfOf: c.Bool("on-behalf-of") || file != "" || id != ""}
	for _, name := range claimFlags {
		if c.IsSet(name) && id == "" {
			return asked, fail(exitUsage, fmt.Errorf("--%s describes no user", name), "add --user TENANT/OBJECT-ID")
		}
	}
	switch {
	case file != "" && id != "":
		return asked, fail(exitUsage, errors.New("--user and --user-token exclude each other"), "a token says itself who the user is")
	case file != "":
		token, err := readUserToken(c, file)
		asked.token = token
		return asked, err
	case id != "":
		user, err := supposedUser(c, p, id)
		asked.user = user
		return asked, err
	}
	return asked, nil
}

// maxUserToken bounds what is read; verification has the real bound.
const maxUserToken = 1 << 20

func readUserToken(c *cli.Context, path string) (string, error) {
	source := c.App.Reader
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fail(exitError, fmt.Errorf("the user's token cannot be read: %w", err), "name a file that holds it with --user-token")
		}
		defer file.Close()
		source = file
	}
	data, err := io.ReadAll(io.LimitReader(source, maxUserToken))
	if err != nil {
		return "", fail(exitError, fmt.Errorf("the user's token cannot be read: %w", err))
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fail(exitError, errors.New("the user's token is empty"), "name a file that holds it with --user-token")
	}
	return token, nil
}

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// supposedUser is a user as a token that is valid now would describe one.
func supposedUser(c *cli.Context, p *policy.Policy, id string) (*policy.User, error) {
	tenant, object, both := strings.Cut(strings.ToLower(id), "/")
	if !both {
		tenant, object = p.Tenant, tenant
	}
	if !guid.MatchString(tenant) || !guid.MatchString(object) {
		return nil, fail(exitUsage, fmt.Errorf("user %q is not the id of one", id), "write TENANT/OBJECT-ID, both GUIDs, from the user's page in the Entra admin center")
	}
	return &policy.User{
		Tenant: tenant, ObjectID: object, Client: strings.ToLower(c.String("client")), Guest: c.Bool("guest"),
		Groups: lower(c.StringSlice("groups")), Roles: c.StringSlice("roles"), Scopes: c.StringSlice("scp"),
		ACRS: c.StringSlice("acrs"), AMR: c.StringSlice("amr"), Expires: time.Now().Add(time.Hour),
	}, nil
}

func lower(ids []string) []string {
	for i, id := range ids {
		ids[i] = strings.ToLower(id)
	}
	return ids
}

// verifyTime bounds how long the keys of the user's tenant are waited for.
const verifyTime = 30 * time.Second

// verifyUser verifies a user's token for the identity that was decided on. What
// the verifier refuses is a refusal; the error says that it could not tell.
func verifyUser(ctx context.Context, p *policy.Policy, d policy.Decision, token string) (user *policy.User, refusal *usertoken.Error, err error) {
	transport, err := entraTransport(p.Cloud)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := usertoken.New(usertoken.Config{Authority: p.Cloud.Authority, Transport: transport})
	if err != nil {
		return nil, nil, err
	}
	defer verifier.Close()
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	got, err := verifier.Verify(ctx, token, usertoken.Expectation{Tenants: d.UserTenants, Audiences: []string{audienceOf(p.Identities[d.Identity])}})
	switch {
	case errors.As(err, &refusal) && refusal.Temporary():
		return nil, nil, fail(exitError, fmt.Errorf("the user's token cannot be verified: %s", refusal.Message), refusal.Hint)
	case refusal != nil:
		return nil, refusal, nil
	case err != nil:
		return nil, nil, err
	}
	return &policy.User{
		Tenant: got.Tenant, ObjectID: got.ObjectID, Client: got.Client, Guest: got.Guest, Groups: got.Groups, GroupsOverage: got.GroupsOverage,
		Roles: got.Roles, Scopes: got.Scopes, ACRS: got.ACRS, AMR: got.AMR, Expires: got.ExpiresAt,
	}, nil, nil
}

// audienceOf is the application that users' tokens are issued for.
func audienceOf(identity policy.Identity) string {
	switch {
	case identity.Application != nil:
		return identity.Application.ClientID
	case identity.Agent != nil:
		return identity.Agent.BlueprintID
	}
	return ""
}
