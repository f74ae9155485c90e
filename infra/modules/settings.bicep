// Computes values for the app. It contains no resources, because the parser of checkov skips files with these
// functions.
@description('App settings by name. Empty ones are omitted.')
param crawlSettings object
@description('Additional app settings: NAME=value, separated by semicolons.')
param furtherSettings string
param identityIds array
@description('Client ids, separated by commas.')
param signInCallers string

var crawled = toObject(filter(items(crawlSettings), one => !empty(one.value)), one => one.key, one => one.value)
// A value may contain equals signs, a name contains none.
var pairs = filter(map(split(furtherSettings, ';'), pair => trim(pair)), pair => indexOf(pair, '=') > 0)
var named = map(pairs, pair => {
  name: trim(substring(pair, 0, indexOf(pair, '=')))
  value: trim(substring(pair, indexOf(pair, '=') + 1))
})
// Everyone who can read the app can read its settings: a secret is set only if it is a reference to a Key Vault.
var secrets = ['AZIMG_REGISTRY_PASSWORD', 'AZURE_CLIENT_SECRET', 'OTEL_EXPORTER_OTLP_HEADERS']
// Only signIn decides who may call: these settings cannot be overridden.
var decided = ['AZIMG_SIGN_IN', 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID', 'WEBSITE_AUTH_AAD_ALLOWED_TENANTS', 'WEBSITE_AUTH_ENABLED']
var free = filter(named, one => !contains(decided, toUpper(one.name)))
var allowed = filter(free, one => !contains(secrets, toUpper(one.name)) || startsWith(one.value, '@Microsoft.KeyVault('))
var further = toObject(allowed, one => one.name, one => one.value)

var callers = map(split(signInCallers, ','), one => trim(one))

output settings object = union(crawled, further)
output identities object = toObject(identityIds, id => id, id => {})
output callers array = filter(callers, one => !empty(one))
