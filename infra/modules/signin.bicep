// Who may ask: App Service authentication with Entra ID in front of the app, or the keys of its functions alone.
param appName string
@description('keys or entra')
param signIn string
@description('The registration that callers sign in to.')
param clientId string
@description('The applications that callers may come with beside their browser.')
param callers array

resource site 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName
}

var entra = {
  enabled: true
  registration: {
    clientId: clientId
    // No secret: an identity without any role stands for the registration.
    clientSecretSettingName: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
    openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
  }
  validation: {
    allowedAudiences: [clientId, 'api://${clientId}']
    defaultAuthorizationPolicy: {
      // Without a list, any application of the tenant gets in by its own name, whoever runs it.
      allowedApplications: concat([clientId], callers)
    }
  }
}

// It is deployed in both cases: what is left out of a deployment stays as it was.
resource authentication 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: site
  name: 'authsettingsV2'
  properties: {
    platform: {
      enabled: signIn == 'entra'
    }
    globalValidation: {
      requireAuthentication: signIn == 'entra'
      unauthenticatedClientAction: 'RedirectToLoginPage'
      redirectToProvider: 'azureactivedirectory'
      // It says how old the catalog is, to whatever watches the house and has no sign-in.
      excludedPaths: ['/api/health']
    }
    httpSettings: {
      requireHttps: true
    }
    identityProviders: {
      azureActiveDirectory: signIn == 'entra' ? entra : { enabled: false }
    }
    login: {
      // Nobody here acts for who has signed in, so nobody keeps their tokens.
      tokenStore: {
        enabled: false
      }
    }
  }
}
