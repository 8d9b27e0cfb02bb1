// Package review sums up audit logs for the people who grant: what each agent
// was granted and used, what it was granted and never used, what it was refused,
// and for whom it acted. From that it proposes a smaller policy.
//
// It reads the lines that package issuance writes and a policy file, and opens
// no file itself. Whatever the size of the logs, it keeps a bounded number of
// things, and says how much it left out.
package review
