// azimg on Azure: one resource group, one managed identity for all work, no storage keys. docs/operations.md describes
// the deployment.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('The name of the environment. The names of the resource group and of everything in it are derived from it.')
param environmentName string

@description('The region to deploy to.')
param location string

@description('The sources to crawl: marketplace, gallery, registry, separated by commas. Empty means all.')
param crawlSources string = ''

@description('The locations to crawl, separated by commas. Empty means all.')
param crawlLocations string = ''

@description('The ids of the subscriptions to crawl, separated by commas. Empty means the subscription of the deployment. Each identity gets the role Reader on each.')
param crawlSubscriptions string = ''

@description('The resource ids of the registries on which the identity gets the roles to list and read them, separated by commas. Empty means that no role on a registry is assigned.')
param crawlRegistries string = ''

@description('The same for registries with permissions per repository (ABAC).')
param crawlRegistriesByRepository string = ''

@description('Whether the identity also gets the role to delete in these registries. No deployed function deletes images.')
param enablePurge bool = false

@description('Parts of the names of the publishers to crawl, separated by commas. Empty means all.')
param crawlPublishers string = ''

@description('The public names of the community galleries to crawl, separated by commas. The value all, or empty, means those that Resource Graph lists; none means none.')
param communityGalleries string = ''

@description('The login servers of the registries to crawl, separated by commas. Empty means all registries of the subscriptions.')
param registryServers string = ''

@description('The user name for the registries of registryServers. Empty means that the identity signs in.')
param registryUsername string = ''

@description('The password of registryUsername, as the resource id of a secret in a Key Vault that uses role-based access control. The identity gets the role to read this secret.')
param registryPasswordSecret string = ''

@description('When to crawl: a cron expression of six fields, in UTC.')
param schedule string = '0 0 3 * * *'

@description('The maximum age of a listing of offers, such as 24h. Older offers are listed again. Empty means the default, 24h.')
param offersMaxAge string = ''

@description('Which snapshots are kept: a number, an age, both (such as 10,30d) or all. Empty means the default, 10,30d.')
param keepSnapshots string = ''

@description('The maximum duration of a run, such as 24h. Items that are still missing then are given up. Empty means the default, 24h.')
param runDeadline string = ''

@description('The cloud whose images are crawled. Empty means the cloud of the deployment.')
param cloud string = ''

@description('The URL of the Resource Manager, for the cloud custom.')
param resourceManager string = ''

@description('The log filter, such as azimg=debug.')
param logFilter string = ''

@description('The endpoint of an OpenTelemetry collector (OTLP over HTTP) for spans and metrics. Empty means none.')
param otlpEndpoint string = ''

@description('The origins whose browser pages may send requests (CORS), separated by commas. Empty means none.')
param corsOrigins string = ''

@description('Additional app settings: NAME=value, separated by semicolons. They override all others. A setting that is a secret must be a reference to a Key Vault, and is ignored otherwise.')
param appSettings string = ''

@minValue(1)
@maxValue(20)
@description('The number of identities that crawl. Each has its own quota of 25 reads a second in each subscription, and the role Reader there.')
param readers int = 1

@description('The object id of a user or group that may read and repair the catalog. Empty means none.')
param principalId string = ''

@allowed(['keys', 'entra'])
@description('How callers are known: keys requires a function key; entra requires a sign-in with Entra ID in front of the app.')
param signIn string = 'keys'

@description('For entra: the application (client) id of the app registration that callers sign in to.')
param signInClientId string = ''

@description('For entra: the client ids of the applications that callers may use in addition to a browser, separated by commas.')
param signInCallers string = ''

@description('The mail address that receives alerts. Empty means none: alerts are then visible only in the portal.')
param alertEmail string = ''

// Not every region has zones: RedundancyConfigurationNotAvailableInRegion (Esri/arcgis-gitops#160).
@description('The redundancy of the storage account. Every region supports Standard_LRS; Standard_ZRS needs availability zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageRedundancy string = 'Standard_LRS'

@description('Whether storage is reachable only through private endpoints.')
param privateNetwork bool = false

@allowed([512, 2048, 4096])
@description('The memory of an instance, in MB.')
param instanceMemory int = 2048

@minValue(40)
@maxValue(1000)
@description('The maximum number of instances of each of the seven function groups: lookups with POST runs, plan, crawl, poison, publish, fail and sweep. All instances share the same quota of Azure.')
param mostInstances int = 40

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var subscriptions = empty(crawlSubscriptions) ? [subscription().subscriptionId] : split(crawlSubscriptions, ',')
var byRegistry = empty(crawlRegistries) ? [] : split(crawlRegistries, ',')
var byRepository = empty(crawlRegistriesByRepository) ? [] : split(crawlRegistriesByRepository, ',')
// The scope of a module is evaluated even if its condition is false. Without a secret, this id keeps the scope valid.
var noSecret = '${subscription().id}/resourceGroups/rg-${environmentName}/providers/Microsoft.KeyVault/vaults/none/secrets/none'
var passwordSecret = empty(registryPasswordSecret) ? noSecret : trim(registryPasswordSecret)

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-azimg-${token}'
    location: location
    tags: tags
    further: readers - 1
    signIn: signIn == 'entra'
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    name: 'azimg-${token}'
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'stazimg${token}'
    location: location
    tags: tags
    privateNetwork: privateNetwork
    workspaceId: monitoring.outputs.workspaceId
    redundancy: storageRedundancy
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'network'
  scope: group
  params: {
    name: 'azimg-${token}'
    location: location
    tags: tags
    storageName: storage.outputs.name
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  scope: group
  params: {
    storageName: storage.outputs.name
    insightsName: monitoring.outputs.name
    identityPrincipalId: identity.outputs.principalId
    principalId: principalId
  }
}

module vault 'modules/vault.bicep' = if (!empty(registryPasswordSecret)) {
  name: 'vault'
  scope: resourceGroup(split(passwordSecret, '/')[2], split(passwordSecret, '/')[4])
  params: {
    vaultName: split(passwordSecret, '/')[8]
    secretName: split(passwordSecret, '/')[10]
    identityPrincipalId: identity.outputs.principalId
  }
}

module settings 'modules/settings.bicep' = {
  name: 'settings'
  scope: group
  params: {
    // The settings that the app reads; README.md explains them. The next deployment discards settings that were made by
    // hand on the app, so every setting has a parameter here.
    crawlSettings: {
      AZIMG_SOURCES: crawlSources
      AZIMG_LOCATIONS: crawlLocations
      AZIMG_SUBSCRIPTIONS: join(subscriptions, ',')
      AZIMG_PUBLISHERS: crawlPublishers
      AZIMG_COMMUNITY_GALLERIES: communityGalleries
      AZIMG_REGISTRIES: registryServers
      AZIMG_REGISTRY_USERNAME: registryUsername
      AZIMG_REGISTRY_PASSWORD: vault.?outputs.setting ?? ''
      AZIMG_SCHEDULE: schedule
      AZIMG_OFFERS_MAX_AGE: offersMaxAge
      AZIMG_KEEP_SNAPSHOTS: keepSnapshots
      AZIMG_RUN_DEADLINE: runDeadline
      AZIMG_CLOUD: empty(cloud) ? environment().name : cloud
      AZIMG_ARM_ENDPOINT: resourceManager
      AZIMG_LOG: logFilter
      OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint
      AZIMG_SIGN_IN: signIn
      // For App Service authentication: the identity with which it authenticates instead of a secret, and the only
      // tenant whose tokens it accepts.
      OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID: identity.outputs.signInClientId
      WEBSITE_AUTH_AAD_ALLOWED_TENANTS: signIn == 'entra' ? tenant().tenantId : ''
    }
    furtherSettings: appSettings
    signInCallers: signInCallers
    identityIds: concat([identity.outputs.id], identity.outputs.furtherIds, identity.outputs.signInIds)
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: 'func-azimg-${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    furtherClientIds: identity.outputs.furtherClientIds
    identities: settings.outputs.identities
    storageName: storage.outputs.name
    insightsConnection: monitoring.outputs.connection
    subnetId: network.?outputs.appSubnetId ?? ''
    furtherSettings: settings.outputs.settings
    corsOrigins: corsOrigins
    instanceMemory: instanceMemory
    mostInstances: mostInstances
  }
  dependsOn: [
    roles
  ]
}

// Deployed after the app's settings, in both directions. When the sign-in is switched off, the handler therefore knows
// it first, and refuses lookups until it is deployed again.
module front 'modules/signin.bicep' = {
  name: 'signin'
  scope: group
  params: {
    appName: app.outputs.name
    signIn: signIn
    clientId: trim(signInClientId)
    callers: settings.outputs.callers
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  scope: group
  params: {
    name: 'azimg-${token}'
    location: location
    tags: tags
    insightsId: monitoring.outputs.id
    email: alertEmail
  }
}

module workbook 'modules/workbook.bicep' = {
  name: 'workbook'
  scope: group
  params: {
    location: location
    tags: tags
    insightsId: monitoring.outputs.id
  }
}

module readers 'modules/reader.bicep' = [
  for id in subscriptions: {
    name: 'reader-${uniqueString(id, token)}'
    scope: subscription(trim(id))
    params: {
      principalIds: concat([identity.outputs.principalId], identity.outputs.furtherPrincipalIds)
    }
  }
]

module registryRoles 'modules/registry.bicep' = [
  for id in concat(byRegistry, byRepository): {
    name: 'registry-${uniqueString(id, token)}'
    scope: resourceGroup(split(trim(id), '/')[2], split(trim(id), '/')[4])
    params: {
      registryName: split(trim(id), '/')[8]
      identityPrincipalId: identity.outputs.principalId
      byRepository: contains(byRepository, id)
      enablePurge: enablePurge
    }
  }
]

output AZURE_RESOURCE_GROUP string = group.name
output AZIMG_API string = app.outputs.api
output AZIMG_STORE string = app.outputs.store
output AZIMG_APP string = app.outputs.name
output AZIMG_SIGN_IN_PRINCIPAL_ID string = identity.outputs.signInPrincipalId
output AZIMG_SIGN_IN_REDIRECT string = app.outputs.redirect
