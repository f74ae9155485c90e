// What is worked out for the app: values alone, since the parser of checkov passes over files with these functions.
@description('App settings by name; what is empty is left out.')
param crawlSettings object
@description('Further app settings: NAME=value, separated by semicolons.')
param furtherSettings string
param identityIds array
@description('Client ids, separated by commas.')
param signInCallers string

var crawled = toObject(filter(items(crawlSettings), one => !empty(one.value)), one => one.key, one => one.value)
// A value may have equals signs in it, a name has none.
var pairs = filter(map(split(furtherSettings, ';'), pair => trim(pair)), pair => indexOf(pair, '=') > 0)
var named = map(pairs, pair => {
  name: trim(substring(pair, 0, indexOf(pair, '=')))
  value: trim(substring(pair, indexOf(pair, '=') + 1))
})
// App settings are read by whoever may read the app: a secret is a reference to a Key Vault, or is not set.
var secrets = ['AZIMG_REGISTRY_PASSWORD', 'AZURE_CLIENT_SECRET', 'OTEL_EXPORTER_OTLP_HEADERS']
// Who may call is decided by signIn alone.
var decided = ['AZIMG_SIGN_IN', 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID', 'WEBSITE_AUTH_AAD_ALLOWED_TENANTS', 'WEBSITE_AUTH_ENABLED']
var free = filter(named, one => !contains(decided, toUpper(one.name)))
var allowed = filter(free, one => !contains(secrets, toUpper(one.name)) || startsWith(one.value, '@Microsoft.KeyVault('))
var further = toObject(allowed, one => one.name, one => one.value)

var callers = map(split(signInCallers, ','), one => trim(one))

output settings object = union(crawled, further)
output identities object = toObject(identityIds, id => id, id => {})
output callers array = filter(callers, one => !empty(one))
