// Package common stands in for the Tencent Cloud SDK, megabytes that flanneld's backend of that name would bring along.
// It has what flannel names, and does nothing.
package common

// StringPtr returns a pointer to a copy.
func StringPtr(value string) *string { return &value }

// StringPtrs returns pointers to the values.
func StringPtrs(values []string) []*string {
	pointers := make([]*string, len(values))
	for i := range values {
		pointers[i] = &values[i]
	}
	return pointers
}

// BoolPtr returns a pointer to a copy.
func BoolPtr(value bool) *bool { return &value }
