// Package policy owns one answer: which agent is asking, and which scopes that
// agent may have. [Parse] reads the policy file, [Policy.Decide] answers, and
// [Policy.Explain] answers with its reasons: it runs the very same function.
//
// A decision takes four steps, in an order that is part of the contract:
//
//  1. caller: the evidence about the peer belongs to exactly one agent
//  2. agent: the request claims no other agent, and the agent has not expired
//  3. identity: the agent may act as the identity that is asked for
//  4. scope: the scopes are canonical, of one resource, and each of them is
//     listed, letter for letter
//
// The package refuses to guess. The zero Policy denies everything. A field it
// does not know, a value that could be read in two ways, and two callers that
// the same peer could match are errors, never a silent choice: nobody may
// believe that a right or a restriction is in force when it is not.
//
// The package is pure: it reads no file, no clock and no environment, and it
// imports nothing else of this module. What a request says about its sender is
// compared with the evidence and never believed.
package policy
