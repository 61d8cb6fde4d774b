// Package errors stands in for the errors of the Tencent Cloud SDK.
package errors

// TencentCloudSDKError is the error of every call.
type TencentCloudSDKError struct{}

func (*TencentCloudSDKError) Error() string {
	return "this flanneld was built without the Tencent Cloud backend"
}
