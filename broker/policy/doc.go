// Package policy owns one answer: which agent is asking, and which scopes that
// agent may have, as whom, and on behalf of which user. [Parse] reads the
// policy file, [Policy.Decide] answers, and [Policy.Explain] answers with its
// reasons: it runs the very same function. [Schema] is the form of the file.
//
// A decision takes up to six steps, in an order that is part of the contract:
//
//  1. caller: the evidence about the peer belongs to exactly one agent
//  2. agent: the request claims no other agent, and the agent is not blocked,
//     not expired, within its limits, and made for users if it asks for one
//  3. identity: the agent may act as the identity that is asked for, and as the
//     member of it when it is a fleet; for a user, it can act for users
//  4. scope: the API, if one is named, is one of the agent's; the scopes, which
//     are the API's if none are named, are canonical, not reserved, of one
//     resource, and each of them is listed, letter for letter
//  5. user: the user is verified, not blocked, and passes every rule about
//     tenant, person, guests, client, scopes, groups, roles and sign-in
//  6. token: the token may leave the broker; or call: the broker calls the API
//     itself, and the API's rules allow the method and the path
//
// A request names its scopes in full: there is one way to write what it means,
// and an answer, a record and a rule can be compared as text. Shorthands such
// as graph are for the file only, whose cloud says what they stand for.
//
// In audit mode, what the rules deny is allowed and marked: expiry, limits, the
// lists of scopes, of APIs and of what of them may be called, and the rules
// about users. Who is asking, whom they act as,
// what is blocked, what no scope may be, and what is not known about a user are
// never forgiven.
//
// The package refuses to guess. The zero Policy denies everything. A field it
// does not know, a value that could be read in two ways, and two callers that
// the same peer could match are errors, never a silent choice: nobody may
// believe that a right or a restriction is in force when it is not.
//
// The package is pure: it reads no file, no clock and no environment, and it
// imports nothing else of this module. What a request says about its sender is
// compared with the evidence and never believed. Tokens are verified elsewhere:
// a [User] is what a verified token says.
package policy
