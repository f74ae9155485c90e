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

@description('When to crawl: six fields, in UTC.')
param schedule string = '0 0 3 * * *'

@description('A person or group that may read and write the data too; empty means nobody.')
param principalId string = ''

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
@description('The most instances of the app. Each draws on one and the same quota of Azure.')
param mostInstances int = 40

var tags = { 'azd-env-name': environmentName }
var token = toLower(uniqueString(subscription().id, environmentName, location))
var subscriptions = empty(crawlSubscriptions) ? [subscription().subscriptionId] : split(crawlSubscriptions, ',')
var byRegistry = empty(crawlRegistries) ? [] : split(crawlRegistries, ',')
var byRepository = empty(crawlRegistriesByRepository) ? [] : split(crawlRegistriesByRepository, ',')

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

module app 'modules/app.bicep' = {
  name: 'app'
  scope: group
  params: {
    name: 'func-azimg-${token}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    storageName: storage.outputs.name
    insightsConnection: monitoring.outputs.connection
    subnetId: network.?outputs.appSubnetId ?? ''
    crawlSources: crawlSources
    crawlLocations: crawlLocations
    crawlSubscriptions: join(subscriptions, ',')
    schedule: schedule
    instanceMemory: instanceMemory
    mostInstances: mostInstances
  }
  dependsOn: [
    roles
  ]
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
      identityPrincipalId: identity.outputs.principalId
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
