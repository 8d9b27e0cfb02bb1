package inject

import (
	"math/big"
	"regexp"
)

// quantityForm is Kubernetes' form of an amount, without exponents.
var quantityForm = regexp.MustCompile(`^([0-9]{1,15}(?:\.[0-9]{1,9})?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)

var units = map[string]*big.Rat{
	"": big.NewRat(1, 1), "m": big.NewRat(1, 1000),
	"k": big.NewRat(1e3, 1), "M": big.NewRat(1e6, 1), "G": big.NewRat(1e9, 1), "T": big.NewRat(1e12, 1),
	"Ki": big.NewRat(1<<10, 1), "Mi": big.NewRat(1<<20, 1), "Gi": big.NewRat(1<<30, 1), "Ti": big.NewRat(1<<40, 1),
}

// quantity reads an amount such as 100m or 64Mi exactly.
func quantity(text string) (*big.Rat, bool) {
	parts := quantityForm.FindStringSubmatch(text)
	if parts == nil {
		return nil, false
	}
	amount, ok := new(big.Rat).SetString(parts[1])
	if !ok {
		return nil, false
	}
	return amount.Mul(amount, units[parts[2]]), true
}

// within says whether amount is at most bound; "" is no bound.
func within(amount, bound string) bool {
	a, ok := quantity(amount)
	if !ok {
		return false
	}
	b, ok := quantity(bound)
	return bound == "" || ok && a.Cmp(b) <= 0
}
