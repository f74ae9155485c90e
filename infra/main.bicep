// azimg on Azure: one resource group, one identity, no keys. docs/operations.md walks through it.
targetScope = 'subscription'

@minLength(1)
@maxLength(40)
@description('Names the resource group and everything in it.')
param environmentName string

@description('The region to deploy to.')
param location string

@description('What to crawl: marketplace, gallery, registry, separated by commas; empty means all.')
param crawlSources string = ''

@description('Locations to crawl, separated by commas; empty means all.')
param crawlLocations string = ''

@description('Subscriptions to crawl, by id, separated by commas; empty means this one. The identity gets Reader on each.')
param crawlSubscriptions string = ''

@description('Registries to crawl, by resource id, separated by commas. The identity gets what it takes to list and read them; empty means that no right on any registry is given.')
param crawlRegistries string = ''

@description('The same for registries whose rights are given by repository (ABAC).')
param crawlRegistriesByRepository string = ''

@description('Whether the identity may delete in these registries. Nothing that is deployed here deletes by itself.')
param enablePurge bool = false

@description('Publishers to crawl, by parts of their names, separated by commas; empty means all.')
param crawlPublishers string = ''

@description('Public names of the community galleries to crawl, separated by commas; all (or empty) means those that Resource Graph lists, none means none.')
param communityGalleries string = ''

@description('Login servers of the registries to crawl, separated by commas, instead of all that the subscriptions have.')
param registryServers string = ''

@description('Whom to sign in as to the registries of registryServers; empty means the identity.')
param registryUsername string = ''

@description('The password of registryUsername: the resource id of a secret of a Key Vault that takes roles. The identity gets the right to read it.')
param registryPasswordSecret string = ''

@description('When to crawl: six fields, in UTC.')
param schedule string = '0 0 3 * * *'

@description('How old listings of offers may get before they are listed again, such as 24h.')
param offersMaxAge string = ''

@description('Which snapshots are kept: a number, an age, both or all.')
param keepSnapshots string = ''

@description('After how long a run gives up what is missing, such as 24h.')
param runDeadline string = ''

@description('The cloud whose images are crawled; empty means the one that is deployed to.')
param cloud string = ''

@description('The Resource Manager of the cloud custom.')
param resourceManager string = ''

@description('What is logged, such as azimg=debug.')
param logFilter string = ''

@description('A collector of OpenTelemetry (OTLP over HTTP) that spans and counts go to; empty means none.')
param otlpEndpoint string = ''

@description('Origins whose pages may ask from a browser, separated by commas; empty means none.')
param corsOrigins string = ''

@description('Further app settings: NAME=value, separated by semicolons. They come after all others. A secret is taken as a reference to a Key Vault alone.')
param appSettings string = ''

@minValue(1)
@maxValue(20)
@description('How many identities read: each has 25 reads a second of each subscription of its own, and Reader there.')
param readers int = 1

@description('A person or group that may read and mend the catalog; empty means nobody.')
param principalId string = ''

@allowed(['keys', 'entra'])
@description('How callers are known: keys asks for a function key, entra for a sign-in with Entra ID in front of the app.')
param signIn string = 'keys'

@description('With entra: the application (client) id of the registration that callers sign in to.')
param signInClientId string = ''

@description('With entra: client ids of the applications, separated by commas, that callers may come with beside their browser.')
param signInCallers string = ''

@description('Where alerts are sent by mail; empty means nowhere, and they are seen in the portal.')
param alertEmail string = ''

// Zones are not everywhere: RedundancyConfigurationNotAvailableInRegion (Esri/arcgis-gitops#160).
@description('How storage is replicated. Every region has Standard_LRS; Standard_ZRS needs zones.')
@allowed(['Standard_LRS', 'Standard_ZRS', 'Standard_GRS', 'Standard_GZRS'])
param storageRedundancy string = 'Standard_LRS'

@description('Whether storage is reached through private endpoints alone.')
param privateNetwork bool = false

@allowed([512, 2048, 4096])
@description('Memory of an instance, in MB.')
param instanceMemory int = 2048

@minValue(40)
@maxValue(1000)
@description('The most instances of each function group, of which there are seven: lookups and POST runs, plan, crawl, poison, publish, fail and sweep. All draw on one and the same quota of Azure.')
param mostInstances int = 40

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var subscriptions = empty(crawlSubscriptions) ? [subscription().subscriptionId] : split(crawlSubscriptions, ',')
var byRegistry = empty(crawlRegistries) ? [] : split(crawlRegistries, ',')
var byRepository = empty(crawlRegistriesByRepository) ? [] : split(crawlRegistriesByRepository, ',')
// Where a module is deployed is looked at also when it is not deployed: without a secret this names none.
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
    // What the app reads, by the names that README.md explains. Whatever is set by hand on the app is replaced by the
    // next deployment: a setting has to be had from here.
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
      // Read by App Service authentication: which identity it proves itself with, in place of a secret, and that no
      // token of another tenant is taken.
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

// Behind the app's settings, in both directions: the handler learns that nobody asks for a sign-in any more before that is
// so, and refuses lookups until it is deployed again.
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
