package words

// Why are the texts of why a host cannot be reached, of one language, for
// package cause. What is in braces is filled in by it.
type Why struct {
	Tag string // of the Words that go with it

	// Causes have the names of codes; where one code has several sentences, a "/"
	// and another word follow.
	Causes map[string]Cause
	// Details say what was found at a link of the chain that holds.
	Details map[string]string

	// What fills places.
	More     func(n string) string       // the end of a list that is too long
	Others   string                      // resolvers that are not known
	Quote    func(name string) string    // of a resource or a site
	At       func(sites string) string   // after a gateway
	Named    func(sites string) string   // after a site
	Aside    func(list string) string    // what is said by the way
	Family   func(family string) string  // after an address
	As       func(actor string) string   // after being signed in
	Away     string                      // after that; the portal is
	AwaySaid func(said string) string    // after that, with the reason
	Heard    func(age string) string     // after the way to a gateway
	Ways     map[string]string           // to a gateway
	Outcomes map[string]string           // of attempts
	Says     func(address string) string // whose word an outcome is
	Attempt  func(to, how, took string) string
	// Conditions of a policy, by the portal's names of their properties.
	Conditions map[string]string
}

// A Cause is why a host cannot be reached, in one sentence, and what to do, in
// some; "" if there is nothing to do.
type Cause struct{ Cause, Next string }

// whys are all tables, in the order of languages.
var whys = []*Why{&englishWhy, &germanWhy}

// Causes is the table of the same language for causes.
func (w *Words) Causes() *Why {
	for _, y := range whys {
		if y.Tag == w.Tag {
			return y
		}
	}
	return whys[0]
}
